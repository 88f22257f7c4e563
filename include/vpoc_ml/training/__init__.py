"""Training that stays finite, says when it is dead, and resumes bit for bit.

Read ``engine.step`` first: one step in plain torch. ``loop`` repeats it, ``monitor`` judges it,
``checkpoint`` stores it, ``job`` turns a run folder into a model, ``launch`` runs the job in a process.
"""
