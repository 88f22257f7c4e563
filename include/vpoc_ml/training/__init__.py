"""Training that stays finite, says when it is dead, and resumes bit for bit.

Read ``engine.step`` first: one step in plain torch, whose arithmetic is ``update.propose``. ``compiled`` and
``fused`` take the same steps faster, ``engines`` chooses. ``loop`` repeats steps, ``monitor`` judges them,
``checkpoint`` stores them, ``job`` turns a run folder into a model, ``ladder`` steps down to a safer recipe
when that fails, ``launch`` runs the job in a process.
"""
