"""A training process must not outlive whoever started it.

The kernel's parent-death signal is tied to the *thread* that started the child, and threads of a
task runner end early; so the child itself watches whether it has been handed to another parent.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from vpoc_ml import environment

PARENT_VARIABLE = environment.TRAINING_PARENT
POLL_SECONDS = 0.25


def die_with_parent(parent: int) -> None:
    """Kill this process group as soon as the process ``parent`` is no longer its parent.

    Only for a process that leads its own group, so that nobody else can be hit.
    """
    threading.Thread(target=_watch, args=(parent,), name="parent-watchdog", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
