"""When training gives up: the next more conservative preset, down to one that holds.

ambitious -> medium -> conservative -> conservative at a learning rate of 1e-5. A preset that is not on the
ladder steps down to medium. Data, features, target and what belongs to the machine (device, threads, processes,
engine) stay the run's own. The precision is the preset's: half of it may be why the rung above gave up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vpoc_ml.config import RunConfig, preset
from vpoc_ml.errors import FallbackExhaustedError, TrainingUnstableError
from vpoc_ml.lake.atomic import write_json

FALLBACK_PRESETS = ("ambitious", "medium", "conservative")
LAST, LAST_RATE = "conservative-1e-5", 1e-5
KEPT = ("huber_delta", "seed")
"""Training settings of the run that every fallback preset takes over."""

Record = dict[str, Any]
Train = Callable[[RunConfig, list[Record]], Record]
Mark = Callable[[RunConfig], str]
log = logging.getLogger(__name__)


def fallback_configs(config: RunConfig) -> list[RunConfig]:
    """Return the configurations to try in order, ``config`` first; ``preset`` names each."""
    if not config.machine.fallback:
        return [config]
    below = (
        FALLBACK_PRESETS[FALLBACK_PRESETS.index(config.preset) + 1 :]
        if config.preset in FALLBACK_PRESETS
        else FALLBACK_PRESETS[1:]
    )
    steps = [_rung(config, name, name) for name in below]
    return [config, *steps, _rung(config, "conservative", LAST, learning_rate=LAST_RATE)]


def train_with_fallback(run_dir: Path, config: RunConfig, train: Train, mark_of: Mark) -> Record:
    """Return the result of the first rung that holds.

    A rung that gives up leaves ``rungs/<number>-<preset>.json`` and its progress lines beside it, so a run that is
    started again goes on with the rung it had reached.

    Args:
        run_dir: folder of the run.
        config: of the first rung.
        train: gets the rung's configuration and the records of those above it.
        mark_of: the rung's fingerprint; a record is believed as long as it is the same.

    Raises:
        TrainingUnstableError: none holds, or the ladder is turned off and the first does not.
    """
    above: list[Record] = []
    for number, rung in enumerate(fallback_configs(config), start=1):
        path = run_dir / "rungs" / f"{number}-{rung.preset}.json"
        mark = mark_of(rung)
        known = json.loads(path.read_text()) if path.is_file() else {}
        if known.get("mark") == mark:
            above.append(known)
            continue
        try:
            return train(rung, above)
        except TrainingUnstableError as error:
            if not config.machine.fallback:
                raise
            log.warning("preset %s gave up: %s", rung.preset, error)
            above.append(_set_aside(run_dir, path, rung, mark, error))
    raise FallbackExhaustedError([(record["rung"], record["error"]) for record in above])


def _rung(config: RunConfig, name: str, shown: str, **changes: float) -> RunConfig:
    base = preset(name)
    kept = {key: getattr(config.training, key) for key in KEPT}
    return config.model_copy(
        update={
            "preset": shown,
            "model": base.model.model_copy(update={"guard_clip": config.model.guard_clip}),
            "training": base.training.model_copy(update={**kept, **changes}),
        }
    )


def _set_aside(run_dir: Path, path: Path, rung: RunConfig, mark: str, error: Exception) -> Record:
    """Write the record of a rung that gave up; its progress lines move beside it."""
    path.parent.mkdir(exist_ok=True)
    progress = run_dir / "progress.jsonl"
    lines = [json.loads(line) for line in progress.read_text().splitlines()] if progress.is_file() else []
    windows = [line for line in lines if line["kind"] == "window"]
    record = {
        "rung": rung.preset,
        "error": str(error),
        "steps": windows[-1]["step"] if windows else 0,
        "rollbacks": windows[-1]["rollbacks"] if windows else 0,
        "skipped": sum(line["skipped"] for line in windows),
        "model": rung.model.model_dump(mode="json"),
        "training": rung.training.model_dump(mode="json"),
        "mark": mark,
    }
    if progress.is_file():
        progress.replace(path.with_suffix(".progress.jsonl"))
    write_json(path, record)
    return record
