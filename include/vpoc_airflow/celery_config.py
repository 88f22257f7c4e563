"""Celery of a cluster: Airflow's own configuration, libraries loaded once, trainings that are stopped in order.

``AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=vpoc_airflow.celery_config.CELERY_CONFIG`` puts it to use.

A worker that gets SIGTERM, as in a rolling restart, takes no further task and waits for its tasks to end. It tells them
nothing: it would wait for the end of a training of hours. With this module it sends SIGTERM to its training processes.
Each writes a checkpoint and ends, its task asks for a retry, and the worker is free to end after seconds.

A worker runs each task in a process that it forks. Before the first one it loads the libraries of ``preload``.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

import psutil
from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import import_modules, worker_shutting_down

from vpoc_airflow.preload import preload

log = logging.getLogger(__name__)

CELERY_CONFIG = DEFAULT_CELERY_CONFIG
POLL_SECONDS = 0.5


def load_libraries(**_signal: Any) -> None:
    """Load the libraries of the tasks."""
    preload()


def trainings() -> list[psutil.Process]:
    """Return the training processes below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "vpoc_ml.training" in process.cmdline():
                found.append(process)
    return found


def stop_trainings(**_signal: Any) -> None:
    """Send SIGTERM to every training process below this one, now and until this process ends."""

    def stop() -> None:
        stopped: set[psutil.Process] = set()
        while True:  # a task may only be about to start its training
            for process in set(trainings()) - stopped:
                log.warning("The worker ends: its training process %d stops after a checkpoint", process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
                stopped.add(process)
            time.sleep(POLL_SECONDS)

    threading.Thread(target=stop, name="stop trainings", daemon=True).start()


import_modules.connect(load_libraries)
worker_shutting_down.connect(stop_trainings)
