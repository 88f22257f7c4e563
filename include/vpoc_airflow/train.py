"""The training task. It stores where its newest checkpoint is, so that a retry can resume from it."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

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


def train(store: Any) -> dict[str, Any]:
    """Train in a subprocess; after every epoch put the newest checkpoint and the run's fingerprint into ``store``.

    ``store`` is the task's state store, which survives retries and killed workers. A pointer with another fingerprint
    belongs to another configuration or training set: it is deleted and its checkpoint is not used. Without a
    fingerprint, because an input is missing, the pointer stays and the stage reports the input.
    """
    run = stage_tasks.run_dir(stage_tasks.current_run())

    def folder_and_fingerprint() -> tuple[Path, str | None]:
        """Return where the model is trained: in the run's folder, or with walk-forward folds in ``refit`` below it."""
        folder = run / layout.REFIT if (run / layout.REFIT / layout.CONFIG).is_file() else run
        try:
            return folder, run_fingerprint(folder, read_config(folder))
        except InputError:
            return folder, None

    _, current = folder_and_fingerprint()
    known = store.get(KEY, None) if current else None
    if known and known["fingerprint"] == current:
        log.info(
            "Checkpoint after epoch %s found: %s. Training decides whether to resume it.",
            known["epoch"],
            known["path"],
        )
    elif known:
        log.warning("Configuration or training set changed: the checkpoint %s is not used", known["path"])
        store.delete(KEY)

    trained = cache(folder_and_fingerprint)  # first called in training: the stage prepares a refit before

    def on_progress(record: ProgressRecord) -> None:
        notify(StageEvent("progress", "train", progress=record))
        if isinstance(record, EpochRecord):
            log.info("%s", record.to_sentence())
            folder, fingerprint = trained()
            newest = stored_checkpoints(folder / layout.CHECKPOINTS)[-1:]
            path = str(newest[0]) if newest else None
            store.set(KEY, {"fingerprint": fingerprint, "epoch": record.epoch, "path": path})

    return stage_tasks.call(pipeline.train, on_progress=on_progress)
