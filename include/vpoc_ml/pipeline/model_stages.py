"""Stages of the model: training set -> train -> evaluate."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.manifest_details import FeaturesDetails
from vpoc_ml.artifacts.stage_results import EvaluateResult, RowLoss, TrainingSetResult, TrainResult
from vpoc_ml.artifacts.track_record import LabelledSessions
from vpoc_ml.artifacts.training_progress import OnProgress, ProgressRecord
from vpoc_ml.artifacts.training_result import TrainedPointer
from vpoc_ml.lake.atomic import read_json, replacing, write_json
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.store import BuildKey, Lake, Manifest
from vpoc_ml.lake.stored_frames import StoredFrames
from vpoc_ml.pipeline.fold_stages import fold_plan, prepare_refit, refit_choices, refit_key
from vpoc_ml.pipeline.roll_stage import with_exact_ratios
from vpoc_ml.pipeline.run import Run, stage

if TYPE_CHECKING:
    from vpoc_ml.artifacts.monitoring_reference import MonitoringReference
    from vpoc_ml.dataset.assemble import TrainingSet
    from vpoc_ml.registry.store import Champion

log = logging.getLogger(__name__)


@stage
def build_training_set(run: Run, contracts: list[str]) -> TrainingSetResult:
    """Assemble labels, splits and features of the contracts' front sessions into the run's training set.

    Raises:
        InsufficientSessionsError: too few usable sessions for three splits and their embargoes.
    """
    from vpoc_ml.dataset.assemble import BAR_COLUMNS, assemble_rows, label_rows
    from vpoc_ml.dataset.folds import labelled_sessions
    from vpoc_ml.dataset.splits import first_sessions

    bars = StoredFrames(run.lake, {each: run.key("bars", each) for each in contracts}, BAR_COLUMNS)
    features = StoredFrames(run.lake, {each: run.key("features", each) for each in contracts})
    roll, roll_manifest = run.lake.load(run.roll_key())
    share = run.config.data.fraction
    days = {} if share >= 1 else {each: frame["session"] for each, frame in features.items()}
    front = first_sessions(roll.filter(pl.col("contract").is_in(contracts)), days, share)
    rows = label_rows(bars, features, with_exact_ratios(front), run.instrument, run.config)
    read = {
        f"{kind}/{each}": found
        for kind, frames in (("bars", bars), ("features", features))
        for each, found in frames.manifests.items()
    }
    build_key = BuildKey(
        {name: manifest.sha256 for name, manifest in read.items()}
        | {"roll": roll_manifest.sha256, "share": str(share)},
        run.config.digest("features", "dataset"),
        code_digest("vpoc_ml.dataset.assemble", "vpoc_ml.dataset.splits"),
    )
    last = front["last_session"].max()
    sessions = LabelledSessions.model_validate({"last": last, "sessions": labelled_sessions(rows.frame)})
    write_json(run.folder / layout.LABELLED_SESSIONS, sessions.to_json())
    built = assemble_rows(rows, run.config)
    run_lake = Lake(run.folder)
    write_json(run.folder / layout.FEATURE_STATISTICS, built.statistics.to_json())
    manifest = run_lake.write_frame(layout.TRAINING_SET, built.frame, build_key)
    splits = dict(built.frame.group_by("split").len().sort("split").iter_rows())
    return TrainingSetResult(
        rows_in=sum(run.lake.require_manifest(run.key("features", each)).rows for each in contracts),
        rows_out=manifest.rows,
        skipped=False,
        splits=splits,
        features=tuple(built.features),
        sha256=manifest.sha256,
        losses=tuple(
            _loss(period, built, features.manifests[period["contract"]])
            for period in front.sort("first_session").iter_rows(named=True)
        ),
    )


def _loss(period: Mapping[str, Any], built: TrainingSet, features: Manifest) -> RowLoss:
    """Return the rows that a contract of the roll table loses, and why, by what its features read of predecessors."""
    code, before, details = period["contract"], period["predecessor"], features.details_as(FeaturesDetails)
    if not (lost := built.lost_rows[code]):
        reason = ""
    elif before is None:
        reason = "warm-up of the first contract"
    elif period["ratio"] is None:
        reason = f"its own warm-up: no step from the prices of {before}"
    elif details is not None and not details.history_sessions:
        reason = f"its own warm-up: the history of {before} is too short or holds a price at or below 0"
    else:
        reason = "incomplete features"
    return RowLoss(contract=code, rows=built.front_rows[code], lost=lost, reason=reason)


@stage
def train(run: Run, *, on_progress: OnProgress | None = None) -> TrainResult:
    """Train the shipped model in a subprocess, resuming its last checkpoint; reuse the model of an equal training.

    With walk-forward folds it is trained on all sessions, up to the epoch that the folds chose; ``training.refit`` says
    how often. With one split it is trained on the training rows of the run's training set.

    ``on_progress`` receives each progress record as it arrives.

    Raises:
        TrainingUnstableError: training did not stay finite and alive.
    """
    from vpoc_ml.pipeline.champion_stages import check_registry, registry_of
    from vpoc_ml.registry.mlflow_copies import Curves
    from vpoc_ml.training.launch.run_inputs import run_fingerprint
    from vpoc_ml.training.launch.subprocess import launch

    check_registry(run.lake)  # fails now rather than after hours of training
    plan = fold_plan(run)
    if plan is None:
        fingerprint = run_fingerprint(run.folder, run.config)
    else:
        choices = refit_choices(run, plan)
        fingerprint = refit_key(run, plan, choices)
    pointer = layout.trained_key(fingerprint)
    source = _reused(run, pointer)
    if source is None:
        folder = run.folder if plan is None else prepare_refit(run, plan, choices)
        curves = Curves(lambda: registry_of(run.lake).mlflow, run.name)

        def on_record(record: ProgressRecord) -> None:
            curves(record)
            if record.kind == "epoch":
                try:  # LockLostError ends the training
                    run.push()  # the checkpoint, from which another machine can go on
                except OSError as error:  # the next epoch tries again
                    log.warning("the checkpoint could not be sent to the lake: %s", error)
            if on_progress is not None:
                on_progress(record)

        try:
            launch(folder, on_progress=on_record)
        finally:
            curves.close()
        write_json(folder / layout.MONITORING_REFERENCE, _reference(run, folder).to_json())
        if plan is not None:
            for name in layout.MODEL_FILES:
                with replacing(run.folder / name) as target:
                    shutil.copyfile(folder / name, target)
            shutil.rmtree(folder)
        run.push()  # before the pointer: a run that reads it finds the files
        made = {name: hash_file(run.folder / name) for name in layout.MODEL_FILES}
        run.lake.write_checksummed_json(pointer, TrainedPointer(run=run.name, files=made).to_json())
    trained = read_json(run.folder / layout.TRAINING_RESULT)
    rows = trained.get("rows", 0)
    own = {"rows_in": rows, "rows_out": rows, "quarantined": 0, "fingerprint": fingerprint}
    return TrainResult.model_validate(trained | own | {"skipped": source is not None, "trained_in": source or run.name})


def _reference(run: Run, folder: Path) -> MonitoringReference:
    """Return the monitoring reference of the model that was trained in ``folder``."""
    from vpoc_ml.models.bundle import read_model_card
    from vpoc_ml.monitoring.reference import build_reference

    features = read_model_card(folder / layout.BEST_MODEL_CARD).features
    return build_reference(folder / layout.TRAINING_SET, features, run.config.monitoring.block_sessions)


def _reused(run: Run, pointer: str) -> str | None:
    """Take over the files of the run that trained this fingerprint, if all are still the same; return its name."""
    stored = run.lake.read_checksummed_json(pointer)
    if stored is None:
        return None
    try:
        known = TrainedPointer.model_validate(stored)
    except ValidationError as error:
        log.warning("%s holds no pointer to a trained model (%s): the model is trained again", pointer, error)
        return None
    with tempfile.TemporaryDirectory() as temporary:
        for name, sha256 in known.files.items():
            file = Path(temporary, name)
            if not run.lake.fetch(layout.run_file(known.run, name), file) or hash_file(file) != sha256:
                return None
        if known.run != run.name:
            for name in known.files:
                with replacing(run.folder / name) as target:
                    shutil.copyfile(Path(temporary, name), target)
    return known.run


@stage
def evaluate(run: Run) -> EvaluateResult:
    """Compare the model with baselines and the champion; write metrics, lineage and report.

    With walk-forward folds the metrics are those of the track record, on which every prediction is out of sample. With
    one split they are those of the run's model on the test rows.
    """
    from vpoc_ml.evaluation.evaluate import evaluate_run
    from vpoc_ml.evaluation.walk_forward import EVALUATED, evaluate_track
    from vpoc_ml.models.bundle import load_model
    from vpoc_ml.pipeline.champion_stages import current_champion
    from vpoc_ml.pipeline.lineage import write_lineage
    from vpoc_ml.pipeline.report_stage import write_evaluation_report

    champion, plan = current_champion(run), fold_plan(run)
    if plan is not None:
        track = Lake(run.folder).read_frame(layout.TRACK_RECORD_PREDICTIONS, EVALUATED)
        metrics = evaluate_track(
            run.folder,
            track,
            plan.preset_key,
            run.config,
            run.instrument,
            champion=None if champion is None else _champion_scores(run, champion, track),
            train_rows=read_json(run.folder / layout.TRAINING_RESULT)["rows"],
        )
        rows_in = metrics.rows
    else:
        rival, rival_features = None, None
        if champion is not None:
            rival = load_model(champion.folder / layout.BEST_MODEL_CARD)
            frames = [run.lake.read_frame(run.key("features", contract)) for contract in run.plan().contracts]
            rival_features = pl.concat(  # as far as they exist
                frame.select("ts", "contract", *(name for name in rival.features if name in frame.columns))
                for frame in frames
            )
        metrics = evaluate_run(
            run.folder, run.config, champion=rival, instrument=run.instrument, more_features=rival_features
        )
        test_rows = pl.scan_parquet(run.folder / layout.TRAINING_SET).filter(pl.col("split") == "test")
        rows_in = int(test_rows.select(pl.len()).collect().item())
    write_lineage(run, plan, metrics)
    report = write_evaluation_report(run, champion)
    return EvaluateResult(
        rows_in=rows_in,
        rows_out=metrics.rows,
        skipped=False,
        champion=champion.version if champion else None,
        metrics=run.uri(layout.METRICS),
        report=run.lake.uri(report),
    )


def _champion_scores(run: Run, champion: Champion, track: pl.DataFrame) -> pl.DataFrame:
    """Return the champion's out-of-sample predictions: ts, contract, ``champion``, ``champion_zero``.

    Up to the end of its training data they are those of its own track record, which came with it; later ones are those
    of its model. A champion without a track record has only the later ones.
    """
    from vpoc_ml.evaluation.forecasts import CHAMPION, forecast_columns, predict
    from vpoc_ml.models.bundle import load_model

    model = load_model(champion.folder / layout.BEST_MODEL_CARD)
    learned, parts = model.model_card.learned_until(), []
    stored = champion.folder / layout.TRACK_RECORD_PREDICTIONS
    if stored.is_file():
        own = pl.read_parquet(stored).filter(pl.col("ts") < learned)
        names = {"candidate": CHAMPION, "candidate_zero": f"{CHAMPION}_zero"}
        parts.append(own.select("ts", "contract", *names).rename(names))
    later = track.filter(pl.col("ts") >= learned)
    for contract in later["contract"].unique().sort():
        features = run.lake.read_frame(run.key("features", contract))
        if absent := [name for name in model.features if name not in features.columns]:
            log.warning("the champion needs %s, which %s lacks", ", ".join(absent), run.key("features", contract))
            continue
        rows = later.select("ts", "contract").join(features, on=["ts", "contract"], how="inner", maintain_order="left")
        parts.append(rows.select("ts", "contract").with_columns(forecast_columns(predict(CHAMPION, model, rows))))
    empty = {"ts": track["ts"].dtype, "contract": pl.String(), CHAMPION: pl.Float64(), f"{CHAMPION}_zero": pl.Float64()}
    return pl.concat([pl.DataFrame(schema=empty), *parts])
