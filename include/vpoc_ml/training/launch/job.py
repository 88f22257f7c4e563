"""One training job: a run folder with a training set becomes a run folder with a model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, read_feature_statistics
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.config import RunConfig
from vpoc_ml.config.stored import read_config
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.build import build_model, count_parameters, stored_target
from vpoc_ml.models.calibrated import set_reference
from vpoc_ml.models.guard import GuardedNet
from vpoc_ml.training.engines.select import EngineChoice, choose_engine
from vpoc_ml.training.hardware.device import DeviceChoice, choose_device, memory_needed
from vpoc_ml.training.hardware.smoke import Probe
from vpoc_ml.training.launch.fallback import fallback_configs, train_with_fallback
from vpoc_ml.training.launch.fingerprint import fingerprint_of
from vpoc_ml.training.launch.run_inputs import hash_inputs
from vpoc_ml.training.launch.saving import save_models
from vpoc_ml.training.launch.validate_config import validate_training_config
from vpoc_ml.training.loop.checkpoint import fingerprints, latest_checkpoint
from vpoc_ml.training.loop.data import TrainingData, load
from vpoc_ml.training.loop.epochs import Trainer, step_rows
from vpoc_ml.training.loop.log import log_to, progress_lines
from vpoc_ml.training.loop.objective import Objective

Result = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingContext:
    """What all rungs of a run stand on: statistics of the features, hashes of the inputs, the device."""

    statistics: FeatureStatistics
    inputs: list[str]
    choice: DeviceChoice

    def fingerprint(self, config: RunConfig) -> str:
        """Return the fingerprint of one rung."""
        return fingerprint_of(self.inputs, config, self.choice.device.type)


def train_run(run_dir: Path, on_progress: Callable[[Result], None] = lambda line: None) -> Result:
    """Train the run in ``run_dir``, from its last checkpoint if it has one; write models, log and result.

    Reads config.json, training_set.parquet, feature_statistics.json. Writes checkpoints/, best_model.*,
    final_model.*, training_config.json, training_result.json, progress.jsonl, training_log.txt, and a record
    in rungs/ of each preset that gave up. On a CPU
    the weights are the same bytes for the same input, torch and thread count, however often it was killed.

    Args:
        run_dir: folder of the run.
        on_progress: receives every line of progress.jsonl as it is written.

    Returns:
        The content of training_result.json. ``dead`` tells that the best model predicts one number.

    Raises:
        MissingInputError, ArtifactError, InputError: the configuration or the training set cannot be used.
        InvalidValueError: settings that cannot train this training set, see ``possible``.
        DeviceError: the settings do not allow a device that works.
        CardBusyError: somebody else holds the card, and the CPU is not allowed or the run was begun on the card.
        TrainingUnstableError: no rung of the ladder holds; without a ladder, the preset does not.
    """
    config = read_config(run_dir)
    with log_to(run_dir / "training_log.txt"):
        context = prepare(run_dir, config)

        def train(rung: RunConfig, above: list[Result]) -> Result:
            return _train(run_dir, rung, context, above, on_progress)

        return train_with_fallback(run_dir, config, train, context.fingerprint)


def prepare(run_dir: Path, config: RunConfig) -> TrainingContext:
    """Read what the rungs share and choose their device, once: what the first leaves in torch's cache is not others'.

    A run with checkpoints from the card waits for a card that is only busy: on the CPU it would begin anew.
    """
    torch.set_num_threads(config.machine.threads)
    statistics, inputs = read_feature_statistics(run_dir), hash_inputs(run_dir)
    validate_training_config(config, statistics)
    probe = Probe(partial(build_model, config.model, statistics), len(statistics.features))
    choice = choose_device(config.machine, probe, needed=memory_needed(run_dir / "training_set.parquet", probe.inputs))
    if choice.busy is not None:
        on_gpu = {fingerprint_of(inputs, rung, "cuda") for rung in fallback_configs(config)}
        if on_gpu & fingerprints(run_dir / "checkpoints"):
            log.warning("the run was begun on the card and waits for it; machine.device cpu begins anew without")
            raise choice.busy
    return TrainingContext(statistics, inputs, choice)


def _train(
    run_dir: Path,
    config: RunConfig,
    context: TrainingContext,
    above: list[Result],
    on_progress: Callable[[Result], None],
) -> Result:
    statistics, choice = context.statistics, context.choice
    torch.manual_seed(config.training.seed)
    net = build_model(config.model, statistics)
    batch = config.training.batch_size * config.training.accumulation
    data = load(run_dir, statistics, net.guard, choice.device, batch)
    set_reference(net.body.to(choice.device), data.train.inputs)
    objective = Objective.of(config.training, stored_target(statistics))
    engine, why = engine_for(net, config, objective, data, choice.device)
    fingerprint = context.fingerprint(config)
    described = describe(config, choice, fingerprint, net) | {"engine": engine.name, "engine_reason": why}
    described |= {"rung": config.preset, "rungs": above}
    write_json(run_dir / "training_config.json", described)
    log.info("%d parameters on %s (%s)", described["parameters"], choice.device, choice.reason)
    log.info("%s engine (%s)", engine.name, why)

    checkpoint = latest_checkpoint(run_dir / "checkpoints", fingerprint)
    resumed = checkpoint.step if checkpoint else 0
    with progress_lines(run_dir / "progress.jsonl", resumed, on_progress) as report:
        trainer = Trainer(engine, data, run_dir / "checkpoints", fingerprint, report, config.machine.checkpoint_seconds)
        if checkpoint:
            log.info("resumed after step %d", resumed)
            trainer.resume(checkpoint)
        trainer.fit()
    result = summarize(trainer, data, described, resumed)
    result |= save_models(run_dir, trainer, net, config, statistics, _about(config, statistics, described, result))
    write_json(run_dir / "training_result.json", result)
    log.info("done: best epoch %s, validation loss %.6f", result["best_epoch"], result["best_validation_loss"])
    return result


def engine_for(
    net: GuardedNet, config: RunConfig, objective: Objective, data: TrainingData, device: torch.device
) -> EngineChoice:
    """Return the engine that trains the network behind the guard, and why that one."""
    settings, rows = config.training, data.train
    batch = step_rows(settings.batch_size * settings.accumulation, len(rows))
    body, columns = net.body.to(device).train(), (rows.inputs, rows.target, rows.weight)
    return choose_engine(body, settings, objective, columns, batch, config.machine.engine)


def describe(config: RunConfig, choice: DeviceChoice, fingerprint: str, net: GuardedNet) -> Result:
    """Return what ``training_config.json`` holds: settings as used, and what the bits depend on."""
    return {
        "model": config.model.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json"),
        "parameters": count_parameters(net),
        "device": str(choice.device),
        "device_reason": choice.reason,
        "device_report": choice.report,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "fingerprint": fingerprint,
    }


def summarize(trainer: Trainer, data: TrainingData, described: Result, resumed: int) -> Result:
    """Return the small result of a finished run."""
    progress, early_stopping = trainer.progress, trainer.progress.early_stopping
    losses = [stopping.best_loss or 0.0 for stopping in early_stopping]
    return {
        "epochs": progress.step // trainer.steps_per_epoch,
        "steps": progress.step,
        "seconds": round(progress.seconds, 3),
        "best_epoch": max(stopping.best_epoch for stopping in early_stopping),
        "best_validation_loss": sum(losses) / len(losses),
        "validation_constant": trainer.constant,
        "parameters": described["parameters"],
        "skipped": sum(monitor.skipped for monitor in trainer.monitors),
        "rollbacks": sum(monitor.rollbacks for monitor in trainer.monitors),
        "resumed_from_step": resumed,
        "engine": described["engine"],
        "engine_reason": described["engine_reason"],
        "rung": described["rung"],
        "rungs": [{key: rung[key] for key in ("rung", "error", "steps", "rollbacks")} for rung in described["rungs"]],
        "device": described["device"],
        "dead": all(stopping.best_dead for stopping in early_stopping),
        "rows": len(data.train),
        "nonfinite_rows": data.nonfinite_rows,
        "preflight": data.preflight,
        "members": [asdict(stopping) for stopping in early_stopping],
    }


def _about(config: RunConfig, statistics: FeatureStatistics, described: Result, result: Result) -> ModelCard:
    """Return the description that is stored beside the weights."""
    return ModelCard(
        features=statistics.features,
        zero_rank=statistics.zero_rank,
        target_quantiles=statistics.target_quantiles,
        target=statistics.target,
        scaler=statistics.scaler,
        model=config.model,
        parameters=described["parameters"],
        fingerprint=described["fingerprint"],
        torch=described["torch"],
        splits=statistics.splits,
        best_epoch=result["best_epoch"],
        best_validation_loss=result["best_validation_loss"],
        dead=result["dead"],
    )
