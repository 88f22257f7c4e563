"""Fallback presets: if training is unstable, continue with the next more conservative preset.

ambitious -> medium -> conservative -> conservative at a learning rate of 1e-5. A preset outside this list continues
with medium. Data, features, target and machine settings stay those of the run. The precision is the fallback preset's,
because half precision may be the reason of the instability.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from vpoc_ml.artifacts.training_files import FALLBACK, PROGRESS
from vpoc_ml.artifacts.training_progress import read_progress, split_records
from vpoc_ml.artifacts.training_result import FailedPreset, TrainingResult
from vpoc_ml.config import RunConfig, preset
from vpoc_ml.errors import FallbackExhaustedError, TrainingUnstableError
from vpoc_ml.lake.atomic import read_json, write_json

FALLBACK_PRESETS = ("ambitious", "medium", "conservative")
LAST, LAST_RATE = "conservative-1e-5", 1e-5
KEPT = ("huber_delta", "seed")
"""Training settings of the run that every fallback preset takes over."""

Train = Callable[[RunConfig, Sequence[FailedPreset]], TrainingResult]
log = logging.getLogger(__name__)


def fallback_configs(config: RunConfig) -> list[RunConfig]:
    """Return the configurations to try in order, ``config`` first; ``preset`` names each."""
    if not config.machine.fallback:
        return [config]
    known = config.preset in FALLBACK_PRESETS
    first = FALLBACK_PRESETS.index(config.preset) + 1 if known else 1
    following = [_fallback(config, name, name) for name in FALLBACK_PRESETS[first:]]
    return [config, *following, _fallback(config, "conservative", LAST, learning_rate=LAST_RATE)]


def train_with_fallback(
    run_dir: Path, config: RunConfig, train: Train, resume_key: Callable[[RunConfig], str]
) -> TrainingResult:
    """Return the result of the first configuration with which training is stable.

    An unstable one leaves ``fallback/<number>-<preset>.json`` and its progress records next to it, so a run that is
    started again continues with the configuration it had reached.

    Args:
        run_dir: folder of the run.
        config: configuration of the run, tried first.
        train: trains a configuration, given the failed presets before it.
        resume_key: key of a configuration; a record of a failed preset counts only with the same key.

    Raises:
        FallbackExhaustedError: training is unstable with every configuration.
        TrainingUnstableError: fallback is off and training is unstable.
    """
    failed: list[FailedPreset] = []
    for number, attempt in enumerate(fallback_configs(config), start=1):
        path = run_dir / FALLBACK / f"{number}-{attempt.preset}.json"
        key = resume_key(attempt)
        known = read_json(path) if path.is_file() else {}
        if known.get("resume_key") == key:
            failed.append(FailedPreset.model_validate(known))
            continue
        try:
            return train(attempt, failed)
        except TrainingUnstableError as error:
            if not config.machine.fallback:
                raise
            log.warning("training is unstable with preset %s: %s", attempt.preset, error)
            failed.append(_record_failure(run_dir, path, attempt, key, error))
    raise FallbackExhaustedError([(each.preset, each.error) for each in failed])


def _fallback(config: RunConfig, name: str, shown: str, **changes: float) -> RunConfig:
    base = preset(name)
    kept = {key: getattr(config.training, key) for key in KEPT}
    return config.model_copy(
        update={
            "preset": shown,
            "model": base.model.model_copy(update={"guard_clip": config.model.guard_clip}),
            "training": base.training.model_copy(update={**kept, **changes}),
        }
    )


def _record_failure(run_dir: Path, path: Path, config: RunConfig, key: str, error: Exception) -> FailedPreset:
    """Write the record of an unstable preset and move its progress records next to it."""
    progress = run_dir / PROGRESS
    windows, _ = split_records(read_progress(run_dir))
    failure = FailedPreset(
        preset=config.preset,
        error=str(error),
        steps=windows[-1].step if windows else 0,
        rollbacks=windows[-1].rollbacks if windows else 0,
    )
    settings = config.model_dump(mode="json", include={"model", "training"})
    skipped = sum(window.skipped for window in windows)
    path.parent.mkdir(exist_ok=True)
    if progress.is_file():
        progress.replace(path.with_suffix(f".{PROGRESS}"))
    write_json(path, {**failure.model_dump(), "skipped": skipped, **settings, "resume_key": key})
    return failure
