"""The training task. It stores where its newest checkpoint is, for people; training itself finds it in its folder."""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from vpoc_airflow import stage_tasks
from vpoc_ml import pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.training_files import stored_checkpoints
from vpoc_ml.artifacts.training_progress import EpochRecord, ProgressRecord
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import InputError
from vpoc_ml.pipeline.events import StageEvent, notify
from vpoc_ml.training.launch.run_inputs import run_fingerprint

log = logging.getLogger(__name__)

KEY = "checkpoint"
CLOSE_SECONDS = 5.0
"""Time that a finished training waits for the API server to take the last pointer."""


class Pointer(TypedDict):
    """Where the newest checkpoint is, and of which configuration and training set it is one."""

    fingerprint: str | None
    epoch: int
    path: str | None


class PointerStore:
    """Keeps the newest pointer in a task's state store, which survives retries and killed workers.

    Every call of the store is one to the API server. An absent server neither ends nor delays a training: pointers are
    sent by a thread of their own, the newest only, and what cannot be sent or read is a warning.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._newest: deque[Pointer] = deque(maxlen=1)
        self._changed, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send, name="checkpoint pointer", daemon=True)
        self._thread.start()

    def read(self) -> Pointer | None:
        """Return the stored pointer; None where there is none or nobody answers."""
        try:
            found: Pointer | None = self._store.get(KEY, None)
        except Exception as error:  # noqa: BLE001 - whatever the server says, training goes on
            log.warning("The pointer to the checkpoint cannot be read: %s: %s", type(error).__name__, error)
            return None
        return found

    def set(self, pointer: Pointer) -> None:
        """Store a pointer soon. It never blocks and never raises."""
        self._newest.append(pointer)
        self._changed.set()

    def close(self) -> None:
        """Wait until the last pointer is stored, for at most ``CLOSE_SECONDS``."""
        self._closing.set()
        self._changed.set()
        self._thread.join(CLOSE_SECONDS)

    def _send(self) -> None:
        closing = False
        while not closing:
            self._changed.wait()
            self._changed.clear()
            closing = self._closing.is_set()
            while self._newest:
                try:
                    self._store.set(KEY, self._newest.popleft())
                except Exception as error:  # noqa: BLE001 - the next epoch tries again
                    log.warning("The pointer to the checkpoint cannot be stored: %s: %s", type(error).__name__, error)


def train(store: Any) -> dict[str, Any]:
    """Train in a subprocess; after every epoch put the newest checkpoint and the run's fingerprint into ``store``.

    The pointer only says in the task's log and state what is there. A pointer with another fingerprint belongs to
    another configuration or training set, whose checkpoints training does not use.
    """
    run = stage_tasks.run_dir(stage_tasks.current_run())

    def folder_and_fingerprint() -> tuple[Path, str | None]:
        """Return where the model is trained: in the run's folder, or with walk-forward folds in ``refit`` below it."""
        folder = run / layout.REFIT if (run / layout.REFIT / layout.CONFIG).is_file() else run
        try:
            return folder, run_fingerprint(folder, read_config(folder))
        except InputError:  # which the stage reports
            return folder, None

    _, current = folder_and_fingerprint()
    pointers = PointerStore(store)
    known = pointers.read() if current else None
    if known and known["fingerprint"] == current:
        log.info(
            "Checkpoint after epoch %s found: %s. Training decides whether to resume it.",
            known["epoch"],
            known["path"],
        )
    elif known:
        log.warning("Configuration or training set changed: the checkpoint %s is not used", known["path"])

    trained = cache(folder_and_fingerprint)  # first called in training: the stage prepares a refit before

    def on_progress(record: ProgressRecord) -> None:
        notify(StageEvent("progress", "train", progress=record))
        if isinstance(record, EpochRecord):
            log.info("%s", record.to_sentence())
            folder, fingerprint = trained()
            newest = stored_checkpoints(folder / layout.CHECKPOINTS)[-1:]
            path = str(newest[0]) if newest else None
            pointers.set({"fingerprint": fingerprint, "epoch": record.epoch, "path": path})

    try:
        return stage_tasks.call(pipeline.train, on_progress=on_progress)
    finally:
        pointers.close()
