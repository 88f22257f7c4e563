"""Training that stays finite, detects a dead model, and resumes bit for bit.

Read ``engines.eager`` first: one step in plain torch, whose arithmetic is ``loop.adamw_step``. ``engines.fused`` takes
the same steps faster; ``engines.select`` chooses. ``loop.epochs`` repeats steps, ``loop.monitor`` checks them,
``loop.checkpoint`` stores them. ``launch.job`` turns a run folder into a model, or takes a safer preset when that
fails; ``launch.subprocess`` runs the job in a process.
"""
