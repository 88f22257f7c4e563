"""One training job: a run folder with a training set becomes a run folder with a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vpoc_ml.artifacts import training_files as files
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, read_feature_statistics
from vpoc_ml.artifacts.training_progress import OnProgress
from vpoc_ml.artifacts.training_result import FailedPreset, TrainingResult
from vpoc_ml.config import RunConfig
from vpoc_ml.config.overrides import read_config
from vpoc_ml.models.build import build_model
from vpoc_ml.training.hardware.device import DeviceChoice, choose_device, memory_needed
from vpoc_ml.training.hardware.smoke import Probe
from vpoc_ml.training.launch.fallback import fallback_configs, train_with_fallback
from vpoc_ml.training.launch.fit import FitContext, fit_run
from vpoc_ml.training.launch.run_inputs import hash_inputs, resume_key, training_fingerprint
from vpoc_ml.training.launch.validate_config import validate_training_config
from vpoc_ml.training.loop.checkpoint import resume_keys
from vpoc_ml.training.loop.log import log_to

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


def train_run(run_dir: Path, on_progress: OnProgress = lambda record: None) -> TrainingResult:
    """Train the run in ``run_dir``, from its last checkpoint if it has one; write models, log and result.

    Reads config.json, training_set.parquet and feature_statistics.json. Writes checkpoints/, best_model.*,
    final_model.*, training_config.json, training_result.json, progress.jsonl and training_log.txt, and in fallback/ a
    record of each preset that was unstable. On a CPU the weights are the same bytes for the same input, code,
    libraries, engine and number of threads, however often the process was killed.

    Args:
        run_dir: folder of the run.
        on_progress: receives every record of progress.jsonl when it is written.

    Returns:
        The content of training_result.json.

    Raises:
        MissingInputError, ArtifactError, InputError: the configuration or the training set cannot be used.
        InvalidValueError: settings that cannot train this training set, see ``validate_config``.
        DeviceError: the settings allow no device that works.
        GpuBusyError: another process holds the GPU, and the CPU is not allowed or the run has a checkpoint of the GPU.
        TrainingUnstableError: training is unstable with every fallback preset; without fallback, with the run's preset.
    """
    config = read_config(run_dir)
    with log_to(run_dir / files.TRAINING_LOG):
        context = prepare(run_dir, config)

        def train(attempt: RunConfig, failed: Sequence[FailedPreset]) -> TrainingResult:
            return fit_run(run_dir, attempt, context.fit_context(attempt, failed), on_progress)

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
