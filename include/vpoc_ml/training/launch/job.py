"""One training job: a run folder with a training set becomes a run folder with a model.

If training is unstable, it continues with the next more conservative preset: ambitious -> medium -> conservative ->
conservative at a learning rate of 1e-5. A preset outside this list continues with medium. Data, features, target and
machine settings stay those of the run. The precision is the fallback preset's, because half precision may be the
reason of the instability.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vpoc_ml.artifacts import training_files as files
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, read_feature_statistics
from vpoc_ml.artifacts.training_progress import OnProgress, read_progress, split_records
from vpoc_ml.artifacts.training_result import FailedPreset, TrainingResult
from vpoc_ml.config import RunConfig, preset
from vpoc_ml.config.overrides import read_config
from vpoc_ml.dataset.targets import KINDS
from vpoc_ml.errors import FallbackExhaustedError, TrainingUnstableError
from vpoc_ml.lake.atomic import read_json, write_json
from vpoc_ml.lake.locks import FolderLocks
from vpoc_ml.models.build import build_model
from vpoc_ml.training.hardware.device import DeviceChoice, Probe, choose_device, memory_needed
from vpoc_ml.training.launch.fit import FitContext, fit_run
from vpoc_ml.training.launch.run_inputs import hash_inputs, resume_key, training_fingerprint
from vpoc_ml.training.launch.validate_config import validate_training_config
from vpoc_ml.training.loop.checkpoint import resume_keys
from vpoc_ml.training.loop.log import log_to
from vpoc_ml.training.loop.objective import CHOICES
from vpoc_ml.training.loop.stop import StopRequest

LOCK, GHOST_SECONDS = ".training", 60.0
"""Lock file of a folder in which a process trains, and how long the next one waits for it. The system frees the lock
when its process ends, which is soon after the end of the task that started it."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingContext:
    """What a run's preset and its fallback presets share: statistics, hashes of the inputs, the device."""

    statistics: FeatureStatistics
    inputs: list[str]
    choice: DeviceChoice

    def fit_context(self, config: RunConfig, failed: Sequence[FailedPreset]) -> FitContext:
        """Return what one of the configurations is trained with."""
        return FitContext(
            self.statistics,
            self.choice.device,
            self.choice.reason,
            self.choice.report,
            training_fingerprint(self.inputs, config),
            self.resume_key(config),
            failed,
        )

    def resume_key(self, config: RunConfig) -> str:
        """Return the key of one configuration's checkpoints on this device."""
        return resume_key(training_fingerprint(self.inputs, config), config, self.choice.device.type)


def train_run(
    run_dir: Path, on_progress: OnProgress = lambda record: None, stop: StopRequest | None = None
) -> TrainingResult:
    """Train the run in ``run_dir``, from its last checkpoint if it has one; write models, log and result.

    Reads config.json, training_set.parquet and feature_statistics.json. Writes checkpoints/, best_model.*,
    final_model.*, training_config.json, training_result.json, progress.jsonl and training_log.txt, and in fallback/ a
    record of each preset that was unstable. On a CPU the weights are the same bytes for the same input, code,
    libraries, engine and number of threads, however often the process was killed.

    Args:
        run_dir: folder of the run.
        on_progress: receives every record of progress.jsonl when it is written.
        stop: asks to stop, from a signal handler; None: nobody does.

    Returns:
        The content of training_result.json.

    Raises:
        MissingInputError, ArtifactError, InputError: the configuration or the training set cannot be used.
        InvalidValueError: settings that cannot train this training set, see ``validate_config``.
        DeviceError: the settings allow no device that works.
        GpuBusyError: another process holds the GPU, and the CPU is not allowed or the run has a checkpoint of the GPU.
        TrainingUnstableError: training is unstable with every fallback preset; without fallback, with the run's preset.
        WriterBusyError: another process has been training in this folder for the last minute.
        TrainingStoppedError: ``stop`` was asked for. A training that has begun has stored a checkpoint.
    """
    stop = stop or StopRequest()
    config = read_config(run_dir)
    with FolderLocks(run_dir).held(LOCK, GHOST_SECONDS), log_to(run_dir / files.TRAINING_LOG):
        context = prepare(run_dir, config)

        def train(attempt: RunConfig, failed: Sequence[FailedPreset]) -> TrainingResult:
            return fit_run(run_dir, attempt, context.fit_context(attempt, failed), on_progress, stop)

        return train_with_fallback(run_dir, config, train, context.resume_key)


def prepare(run_dir: Path, config: RunConfig) -> TrainingContext:
    """Read what all presets share and choose the device once.

    A second choice would mistake memory that torch caches after the first preset for that of another process. A run
    with checkpoints of the GPU waits for a GPU that is only busy, because the CPU cannot resume them.
    """
    torch.set_num_threads(config.machine.threads)
    statistics, inputs = read_feature_statistics(run_dir), hash_inputs(run_dir)
    validate_training_config(config, statistics)
    probe = Probe(partial(build_model, config.model, statistics), len(statistics.features))
    choice = choose_device(config.machine, probe, needed=memory_needed(run_dir / files.TRAINING_SET, probe.inputs))
    if choice.busy is not None:
        configs = fallback_configs(config)
        of_gpu = {resume_key(training_fingerprint(inputs, each), each, "cuda") for each in configs}
        if of_gpu & resume_keys(run_dir / files.CHECKPOINTS):
            log.warning("the run has a checkpoint of the GPU and waits for it; machine.device=cpu starts without it")
            raise choice.busy
    return TrainingContext(statistics, inputs, choice)


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
        path = run_dir / files.FALLBACK / f"{number}-{attempt.preset}.json"
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
    if base.training.loss not in CHOICES[KINDS[config.dataset.target.kind].loss]:
        kept["loss"] = "auto"  # classes and quantiles have a loss of their own
    return config.model_copy(
        update={
            "preset": shown,
            "model": base.model.model_copy(update={"guard_clip": config.model.guard_clip}),
            "training": base.training.model_copy(update={**kept, **changes}),
        }
    )


def _record_failure(run_dir: Path, path: Path, config: RunConfig, key: str, error: Exception) -> FailedPreset:
    """Write the record of an unstable preset and move its progress records next to it."""
    progress = run_dir / files.PROGRESS
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
        progress.replace(path.with_suffix(f".{files.PROGRESS}"))
    write_json(path, {**failure.model_dump(), "skipped": skipped, **settings, "resume_key": key})
    return failure
