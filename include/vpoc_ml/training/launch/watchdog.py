"""A training process ends when the process that started it disappears.

The kernel's parent-death signal is bound to the *thread* that started the child, and threads of a task runner end
early. So the child polls whether another process has become its parent.
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

    For a process that leads its own group only, so that no other process is killed.
    """
    threading.Thread(target=_watch, args=(parent,), name="parent-watchdog", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
