"""Train one configuration on one device and store its models. All code that computes the weights is imported here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import JsonValue

from vpoc_ml.artifacts import training_files as files
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.artifacts.training_progress import OnProgress
from vpoc_ml.artifacts.training_result import (
    FailedPreset,
    MemberResult,
    TrainingRecord,
    TrainingResult,
    read_refit_choices,
)
from vpoc_ml.config import RunConfig, TrainingConfig
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.build import build_model, count_parameters, stored_target
from vpoc_ml.models.calibrated import set_reference
from vpoc_ml.models.distance import training_distances
from vpoc_ml.models.linear_path import start_at_ridge
from vpoc_ml.models.ridge import Floats, Inputs
from vpoc_ml.training.engines.select import choose_engine
from vpoc_ml.training.launch.saving import save_models
from vpoc_ml.training.loop.checkpoint import latest_checkpoint
from vpoc_ml.training.loop.data import Rows, load
from vpoc_ml.training.loop.epochs import Trainer, step_rows
from vpoc_ml.training.loop.log import progress_lines
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.stop import StopRequest

OVERLAP_VALIDATIONS = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitContext:
    """What one configuration is trained with.

    Attributes:
        statistics: of the training set.
        device: device that trains.
        device_reason: why it was chosen.
        device_report: hardware, known issues and smoke test, JSON-ready.
        fingerprint: training fingerprint of the configuration.
        resume_key: key of the checkpoints that may be resumed.
        failed_presets: presets that were unstable before.
    """

    statistics: FeatureStatistics
    device: torch.device
    device_reason: str
    device_report: dict[str, JsonValue]
    fingerprint: str
    resume_key: str
    failed_presets: Sequence[FailedPreset] = ()


def fit_run(
    run_dir: Path, config: RunConfig, context: FitContext, on_progress: OnProgress, stop: StopRequest
) -> TrainingResult:
    """Train ``config`` from its last checkpoint if there is one; write models, progress, record and result.

    With ``refit.json`` in the folder all rows train, up to the epoch that it names.

    Raises:
        NoLabelledRowsError: a split has no row with a target.
        TooManyRollbacksError, NoFiniteValidationLossError: training is unstable.
        TrainingStoppedError: ``stop`` was asked for.
    """
    statistics, settings = context.statistics, _with_validations(config)
    torch.manual_seed(settings.seed)
    net = build_model(config.model, statistics)
    choices = read_refit_choices(run_dir)
    batch_rows = settings.batch_size * settings.accumulation
    data = load(run_dir, statistics, net.guard, context.device, batch_rows, refit=choices is not None)
    if config.model.linear_path == "ridge":
        fitted, held = data.train, data.validation
        if choices is not None:  # a refit has no validation rows: its newest training rows choose the penalty
            fitted, held = data.train[: -len(data.train) // 5], data.train[-len(data.train) // 5 :]
        start_at_ridge(net.body, *(_inputs_and_ranks(rows) for rows in (fitted, held)))
    set_reference(net.body.to(context.device), data.train.inputs)
    objective = Objective.of(settings, stored_target(statistics))
    rows = (data.train.inputs, data.train.target, data.train.weight)
    batch = step_rows(batch_rows, len(data.train) // settings.stride)
    engine, reason = choose_engine(net.body.train(), settings, objective, rows, batch, config.machine.engine)
    record = TrainingRecord(
        model=config.model,
        training=settings,
        preset=config.preset,
        failed_presets=tuple(context.failed_presets),
        parameters=count_parameters(net),
        device=str(context.device),
        device_reason=context.device_reason,
        device_report=context.device_report,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        fingerprint=context.fingerprint,
        engine=engine.name,
        engine_reason=reason,
    )
    write_json(run_dir / files.TRAINING_CONFIG, record.to_json())
    log.info("%d parameters on %s (%s)", record.parameters, context.device, context.device_reason)
    log.info("%s engine (%s)", engine.name, reason)

    checkpoint = latest_checkpoint(run_dir / files.CHECKPOINTS, context.resume_key)
    resumed = checkpoint.step if checkpoint else 0
    with progress_lines(run_dir / files.PROGRESS, resumed, on_progress) as report:
        interval = config.machine.checkpoint_seconds
        stop_epochs = choices.epochs if choices else None
        trainer = Trainer(
            engine, data, run_dir / files.CHECKPOINTS, context.resume_key, report, interval, stop_epochs, stop
        )
        if checkpoint:
            log.info("resumed after step %d", resumed)
            trainer.resume(checkpoint)
        with stop.until_granted():
            trainer.fit()
    result = summarize(trainer, record, resumed)
    model_card = _model_card(statistics, record, result).model_copy(
        update={"distances": training_distances(data.train.inputs.cpu().numpy())}
    )
    saved = save_models(run_dir, trainer, net, config, statistics, model_card, choices)
    result = result.model_copy(update=asdict(saved) | {"parts": saved.parts})
    write_json(run_dir / files.TRAINING_RESULT, result.to_json())
    log.info("done: best epoch %s, validation loss %.6f", result.best_epoch, result.best_validation_loss)
    return result


def _inputs_and_ranks(rows: Rows) -> tuple[Inputs, Floats]:
    known = torch.where(rows.weight > 0, rows.target, torch.nan)
    return rows.inputs.cpu().numpy(), known.double().cpu().numpy()


def _with_validations(config: RunConfig) -> TrainingConfig:
    """Return the training settings with a number of validations: one epoch sees an overlapping return many times."""
    if config.training.validations_per_epoch:
        return config.training
    several = OVERLAP_VALIDATIONS if str(config.dataset.horizon) != "1m" else 1
    return config.training.model_copy(update={"validations_per_epoch": several})


def summarize(trainer: Trainer, record: TrainingRecord, resumed: int) -> TrainingResult:
    """Return the result of a finished training; parts and trees are added once the models are stored."""
    progress, members = trainer.progress, trainer.progress.early_stopping
    losses = [member.best_loss or 0.0 for member in members]
    return TrainingResult(
        preset=record.preset,
        failed_presets=record.failed_presets,
        epochs=progress.step // trainer.steps_per_epoch,
        steps=progress.step,
        seconds=round(progress.seconds, 3),
        best_epoch=max(member.best_epoch for member in members),
        trained_epochs=max(member.trained_epochs for member in members),
        best_validation_loss=sum(losses) / len(losses),
        validation_constant=trainer.constant,
        parameters=record.parameters,
        skipped=sum(monitor.skipped for monitor in trainer.monitors),
        rollbacks=sum(monitor.rollbacks for monitor in trainer.monitors),
        resumed_from_step=resumed,
        engine=record.engine,
        engine_reason=record.engine_reason,
        device=record.device,
        dead=all(member.best_dead for member in members),
        rows=len(trainer.data.train),
        nonfinite_rows=trainer.data.preflight.nonfinite_rows,
        preflight=trainer.data.preflight,
        members=tuple(MemberResult(**asdict(member)) for member in members),
    )


def _model_card(statistics: FeatureStatistics, record: TrainingRecord, result: TrainingResult) -> ModelCard:
    return ModelCard(
        features=statistics.features,
        zero_rank=statistics.zero_rank,
        target_quantiles=statistics.target_quantiles,
        target=statistics.target,
        scaler=statistics.scaler,
        model=record.model,
        parameters=record.parameters,
        fingerprint=record.fingerprint,
        torch=record.torch,
        splits=statistics.splits,
        best_epoch=result.best_epoch,
        best_validation_loss=result.best_validation_loss,
        dead=result.dead,
    )
