"""Stages of the walk-forward evaluation: plan the folds, train each one, join their predictions, prepare the refit.

A complete fold lies below ``track/<symbol>/<key>/`` of the lake: the model, ``fold.json`` and its predictions. It is
shared by all runs and never trained again. Another night adds predictions of new sessions to the newest fold.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Lock

import polars as pl
from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.model_card import Stack
from vpoc_ml.artifacts.stage_results import FoldResult, FoldsResult, TrackRecordResult
from vpoc_ml.artifacts.track_record import Fold, FoldModel, FoldPlan, LabelledSession, LabelledSessions, Period
from vpoc_ml.artifacts.training_progress import OnProgress
from vpoc_ml.artifacts.training_result import RefitChoices, TrainingRecord, TrainingResult
from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.assemble import LabelledFrame
from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import write_json, write_text
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.lake.stored_frames import StoredFrames
from vpoc_ml.models.stacking import is_stack
from vpoc_ml.pipeline.roll_stage import with_exact_ratios
from vpoc_ml.pipeline.run import Run, read_artifact, stage
from vpoc_ml.plugins.registered import digests

log = logging.getLogger(__name__)

MODEL_FILES = (
    f"{layout.BEST_MODEL}.safetensors",
    layout.BEST_MODEL_CARD,
    layout.TRAINING_CONFIG,
    layout.TRAINING_RESULT,
    layout.TRAINING_LOG,
)
"""Files of a complete fold that its training writes."""
PRODUCERS = (
    "vpoc_ml.dataset.assemble",
    "vpoc_ml.training.launch.fit",
    "vpoc_ml.evaluation.baselines",
    "vpoc_ml.evaluation.stacked",
)
"""Modules that compute a fold and the stack of its learners."""
ONE_FOLD = Lock()
"""Held while a fold's rows are in memory. Folds that threads of one process train wait for each other here."""
FRIDAY = 4
FOLLOWING = 2
"""Contracts after the last one of a window in which labels over sessions can end."""


@stage
def plan_folds(run: Run) -> FoldsResult:
    """Cut the run's usable sessions into folds and write ``folds.json``; there are none with ``evaluation.fold=off``.

    Raises:
        InvalidValueError: the settings leave no training sessions.
    """
    from vpoc_ml.dataset.folds import plan_folds as planned

    sessions = labelled_sessions(run)
    digests = sessions.digests()
    settings = preset_key(run.config)
    folds = []
    for each in planned(sessions.sessions, run.config.dataset, run.config.evaluation):
        windows = [" ".join(digests[day] for day in part) for part in (each.train, each.validation)]
        parts = {name: _period(getattr(each, name)) for name in ("train", "validation", "test")}
        folds.append(Fold(name=each.name, key=_digest(settings, *windows), **parts))
    plan = FoldPlan(preset_key=settings, folds=tuple(folds))
    run.lake.write_json(layout.run_file(run.name, layout.FOLDS), plan.to_json())
    return FoldsResult(folds=tuple(fold.name for fold in folds))


def preset_key(config: RunConfig) -> str:
    """Return what identifies the folds of a preset, whatever their data: settings, code, libraries; 16 hex digits."""
    own = digests("models", config.model.own).values()
    return _digest(config.digest("features", "dataset", "model", "training"), code_digest(*PRODUCERS), *own)


def labelled_sessions(run: Run) -> LabelledSessions:
    """Return the run's usable sessions, which the training set's stage has written.

    Raises:
        ArtifactError: there are none, or the file is damaged.
    """
    key = layout.run_file(run.name, layout.LABELLED_SESSIONS)
    found = read_artifact(run.lake, key, LabelledSessions, "the usable sessions")
    if found is None:
        raise ArtifactError(run.lake.location(key), "the usable sessions of a training set", "none")
    return found


def fold_plan(run: Run) -> FoldPlan | None:
    """Return the run's folds; None where the run has one split, or is of a release without folds."""
    key = layout.run_file(run.name, layout.FOLDS)
    plan = read_artifact(run.lake, key, FoldPlan, "the plan of the folds")
    return plan if plan is not None and plan.folds else None


@stage
def train_fold(run: Run, name: str, *, on_progress: OnProgress = lambda record: None) -> FoldResult:
    """Train a fold unless a run has trained it with the same data, settings and code; predict its new sessions.

    A killed fold resumes from its checkpoint in ``runs/<run>/folds/<name>/``.

    Args:
        run: the run.
        name: name of the fold.
        on_progress: receives each progress record.

    Raises:
        TrainingUnstableError: training did not stay finite and alive with any fallback preset.
        ArtifactError: there is no such fold, or bars or features have changed since the fold was planned.
    """
    plan = fold_plan(run)
    fold = next((each for each in plan.folds if each.name == name), None) if plan else None
    if fold is None:
        raise ArtifactError(run.uri(layout.FOLDS), f"a fold {name}", "none")
    test = {
        each.session.isoformat(): each.digest
        for each in labelled_sessions(run).sessions
        if fold.test.first <= each.session <= fold.test.last
    }
    key = layout.fold_predictions_key(run.config.data.instrument, fold.key)
    trained, known = read_fold_model(run, fold), _known_sessions(run, key, fold, test)
    if trained is not None and known == test.keys():
        rows = run.lake.require_manifest(key).rows
        return FoldResult(rows_in=rows, rows_out=rows, skipped=True, key=fold.key, best_epoch=trained.best_epoch)
    rows_read, why = 0, "new sessions"
    with tempfile.TemporaryDirectory() as temporary:
        if trained is None or not _fetch(run, fold, trained, Path(temporary)):
            trained, rows_read = _train(run, fold, on_progress)
            _fetch(run, fold, trained, Path(temporary))
            why = "new"
        with run.lake.writing(f"track-{fold.key}"):  # another run may predict the same fold
            known = _known_sessions(run, key, fold, test)
            predicted, rows_new = _predict(run, fold, trained, Path(temporary), test, known)
    return FoldResult(
        rows_in=rows_read + rows_new,
        rows_out=predicted,
        skipped=False,
        reason=why,
        key=fold.key,
        best_epoch=trained.best_epoch,
    )


def _known_sessions(run: Run, key: str, fold: Fold, test: Mapping[str, str]) -> set[str]:
    """Return the sessions of ``test`` (session: digest) whose stored predictions are valid; none of a damaged file."""
    manifest = run.lake.manifest(key)
    if manifest is None or (manifest.config, manifest.code) != (fold.key, _prediction_code()):
        return set()
    if not run.lake.up_to_date(key, BuildKey(manifest.inputs, manifest.config, manifest.code)):
        return set()
    return {day for day, digest in test.items() if manifest.inputs.get(day) == digest}


def _prediction_code() -> str:
    return code_digest("vpoc_ml.evaluation.fold_predictions")


def read_fold_model(run: Run, fold: Fold) -> FoldModel | None:
    """Return the record of a complete fold; None where the fold is not complete."""
    symbol = run.config.data.instrument
    stored = run.lake.read_checksummed_json(layout.fold_model_key(symbol, fold.key))
    if stored is None:
        return None
    try:
        model = FoldModel.model_validate(stored)
    except ValidationError as error:
        log.warning("fold %s has no valid record (%s): it is trained again", fold.name, error)
        return None
    return model


def _require_fold_model(run: Run, fold: Fold) -> FoldModel:
    model = read_fold_model(run, fold)
    if model is None:
        key = layout.fold_model_key(run.config.data.instrument, fold.key)
        raise ArtifactError(run.lake.location(key), f"the complete fold {fold.name}", "none")
    return model


def _fetch(run: Run, fold: Fold, trained: FoldModel, folder: Path) -> bool:
    """Copy the files of a fold's model into ``folder``; return whether all are there and undamaged."""
    stored = layout.track_folder(run.config.data.instrument, fold.key)
    for name, sha256 in trained.files.items():
        if not run.lake.fetch(f"{stored}/{name}", folder / name) or hash_file(folder / name) != sha256:
            log.warning("fold %s: %s/%s is missing or damaged: the fold is trained again", fold.name, stored, name)
            return False
    return True


def _train(run: Run, fold: Fold, on_progress: OnProgress) -> tuple[FoldModel, int]:
    """Train a fold in a folder of the run and store it; return its record and the number of rows read."""
    from vpoc_ml.dataset.assemble import fit_training_set
    from vpoc_ml.dataset.folds import window_rows
    from vpoc_ml.evaluation.baselines import TREES, StoredRows, fit_baselines
    from vpoc_ml.evaluation.evaluate import rank_of_zero
    from vpoc_ml.models.bundle import load_model
    from vpoc_ml.training.launch.subprocess import launch

    symbol, config = run.config.data.instrument, run.config
    folder = run.lake.folder(layout.fold_folder(run.name, fold.name))
    with ONE_FOLD:
        rows = labelled_rows(run, fold.train.first, fold.validation.last)
        train_days, held_days = ((part.first, part.last) for part in (fold.train, fold.validation))
        frame = window_rows(rows.frame, train_days, held_days)
        built = fit_training_set(replace(rows, frame=frame), config)
        write_training_folder(folder, built.frame, built.statistics.to_json(), config, fold.key)
        rows_read, target_quantiles = rows.frame.height, built.statistics.target_quantiles
        del rows, frame, built  # the training process has rows of its own
    launch(folder, on_progress=on_progress)
    remedy = f"Run the stage train-fold again for fold {fold.name}."
    result = TrainingResult.read(folder / layout.TRAINING_RESULT, what="the result of the training", remedy=remedy)
    record = TrainingRecord.read(folder / layout.TRAINING_CONFIG, what="the record of the training", remedy=remedy)
    model = load_model(folder / layout.BEST_MODEL_CARD)
    train, validation = (StoredRows(folder / layout.TRAINING_SET, name) for name in ("train", "validation"))
    zero_rank = rank_of_zero(train["ret"].to_numpy())
    with ONE_FOLD:
        baselines = fit_baselines(
            train,
            validation,
            model.features,
            zero_rank,
            config.model.guard_clip,
            trees=TREES not in model.part_zero_ranks,
        )
    trained = FoldModel(
        fold=fold,
        fingerprint=record.fingerprint,
        preset=result.preset,
        model=record.model,
        training=record.training,
        best_epoch=result.best_epoch,
        trained_epochs=result.trained_epochs,
        best_validation_loss=result.best_validation_loss,
        train_rows=train.height,
        validation_rows=validation.height,
        target_quantiles=target_quantiles,
        baselines=baselines,
        parts={part.name: part.weight for part in result.parts or ()},
        slope=result.slope,
        trees=result.trees,
        ridge_penalty=result.ridge_penalty,
        trained_in=run.name,
        files={name: hash_file(folder / name) for name in MODEL_FILES},
    )
    run.confirm()
    for name in MODEL_FILES:
        run.lake.storage.upload(folder / name, f"{layout.track_folder(symbol, fold.key)}/{name}")
    run.lake.write_checksummed_json(layout.fold_model_key(symbol, fold.key), trained.to_json())
    shutil.rmtree(folder)
    return trained, rows_read


def _predict(
    run: Run, fold: Fold, trained: FoldModel, folder: Path, test: Mapping[str, str], known: set[str]
) -> tuple[int, int]:
    """Add the predictions of sessions that are new or have changed; return the rows of the fold and the new ones.

    Stored predictions of all other sessions stay as they are, to the bit. So do later ones, where the run is of a past
    night.

    Args:
        run: the run.
        fold: the fold.
        trained: its record.
        folder: holds the fold's model.
        test: the fold's test sessions with their digests.
        known: those whose stored predictions are valid.
    """
    from vpoc_ml.evaluation.fold_predictions import predict_fold
    from vpoc_ml.models.bundle import load_model

    key = layout.fold_predictions_key(run.config.data.instrument, fold.key)
    manifest = run.lake.manifest(key)
    wanted = sorted(date.fromisoformat(day) for day in test.keys() - known)
    parts: list[pl.DataFrame] = []
    inputs = dict(test)
    if known and manifest is not None:
        inputs = {**manifest.inputs, **test}
        parts.append(run.lake.read_frame(key).filter(~pl.col("session").is_in(wanted)))
    new = 0
    if wanted:
        rows = labelled_rows(run, wanted[0], wanted[-1]).frame.filter(pl.col("session").is_in(wanted))
        model = load_model(folder / layout.BEST_MODEL_CARD)
        parts.append(predict_fold(rows, model, trained.baselines, trained.target_quantiles))
        new = parts[-1].height
    build_key = BuildKey(inputs, fold.key, _prediction_code())
    return run.lake.write_frame(key, pl.concat(parts).sort("ts"), build_key).rows, new


@stage
def build_track_record(run: Run) -> TrackRecordResult:
    """Join the predictions of all folds into the run's track record, with the metrics of each fold.

    Raises:
        ArtifactError: a fold is not complete.
    """
    from vpoc_ml.evaluation.stacked import stacked_track
    from vpoc_ml.evaluation.walk_forward import track_record

    plan = fold_plan(run)
    if plan is None:
        return TrackRecordResult(rows_in=0, rows_out=0, skipped=True, reason="one split: there are no folds", folds=0)
    symbol, parts, models = run.config.data.instrument, [], {}
    days = [day.session for day in labelled_sessions(run).sessions]
    for fold in plan.folds:
        models[fold.name] = _require_fold_model(run, fold)
        key = layout.fold_predictions_key(symbol, fold.key)
        test = [day for day in days if fold.test.first <= day <= fold.test.last]
        frame, manifest = run.lake.load(key)
        if absent := sorted({day.isoformat() for day in test} - manifest.inputs.keys()):
            raise ArtifactError(run.lake.location(key), f"predictions of session {absent[0]}", "none")
        parts.append(frame.filter(pl.col("session").is_in(test)).with_columns(fold=pl.lit(fold.name)))
    track = pl.concat(parts, how="diagonal", rechunk=True)  # a fallback preset can have other parts
    parts.clear()  # with them every row would be in memory twice
    if not track["ts"].is_sorted():  # folds follow each other; a sort holds all rows up to three times
        track = track.sort("ts")
    stacks: Mapping[date, Stack] = {}
    if is_stack(run.config.model):
        track, stacks = stacked_track(track, run.config.evaluation.huber_delta)
    record = track_record(track, plan.folds, models, stacks, plan.preset_key, run.config)
    inputs = {fold.name: fold.key for fold in plan.folds}
    Lake(run.folder).write_frame(layout.TRACK_RECORD_PREDICTIONS, track, BuildKey(inputs, plan.preset_key, ""))
    write_json(run.folder / layout.TRACK_RECORD, record.to_json())
    return TrackRecordResult(
        rows_in=track.height, rows_out=track.height, skipped=False, folds=len(plan.folds), sessions=record.sessions
    )


def refit_key(run: Run, plan: FoldPlan, choices: RefitChoices) -> str:
    """Return what identifies the shipped model: its training sessions, the folds' choices, settings and code."""
    days = refit_sessions(run, plan)
    return _digest(plan.preset_key, choices.model_dump_json(), " ".join(day.digest for day in days))


def prepare_refit(run: Run, plan: FoldPlan, choices: RefitChoices, folder: Path | None = None) -> Path:
    """Write the training set of the shipped model, all rows of it training rows; return its folder.

    ``folder`` is by default one in the run's.

    The network's settings are those of the newest fold, which a fallback preset may have trained. Training does not
    fall back to another preset: the track record would no longer be that of the model.
    """
    from vpoc_ml.dataset.assemble import fit_training_set
    from vpoc_ml.dataset.row_runs import take_runs

    days = refit_sessions(run, plan)
    rows = labelled_rows(run, days[0].session, days[-1].session)
    frame = take_runs(rows.frame, rows.frame["session"].is_in([day.session for day in days]))
    end = frame["ts"].max()
    assert isinstance(end, datetime)
    inside = frame["label_end"] <= end + timedelta(minutes=1)
    frame = take_runs(frame, inside).with_columns(split=pl.lit("train"))
    built = fit_training_set(replace(rows, frame=frame), run.config)
    record = _require_fold_model(run, plan.folds[-1])
    config = run.config.model_copy(
        update={
            "preset": record.preset,
            "model": record.model,
            "training": record.training,
            "machine": run.config.machine.model_copy(update={"fallback": False}),
        }
    )
    folder = folder or run.folder / layout.REFIT
    write_training_folder(folder, built.frame, built.statistics.to_json(), config, refit_key(run, plan, choices))
    write_json(folder / layout.REFIT_CHOICES, choices.to_json())
    return folder


def refit_choices(run: Run, plan: FoldPlan) -> RefitChoices:
    """Return what the folds of the newest fold's preset chose.

    Weights and slope of a stack are fitted on predictions of the folds, as for a week that begins after the training
    sessions. Where these are few, and for a blend, they are the mean of the folds' own.
    """
    from vpoc_ml.evaluation.fold_predictions import PART
    from vpoc_ml.evaluation.stacked import stack_after

    models = [_require_fold_model(run, fold) for fold in plan.folds]
    same = [model for model in models if model.preset == models[-1].preset]
    trees = [model.trees for model in same if model.trees is not None]
    slopes = [model.slope for model in same if model.slope is not None]
    penalties = [model.ridge_penalty for model in same if model.ridge_penalty is not None]
    weights = {name: statistics.fmean(model.parts[name] for model in same) for name in same[-1].parts}
    slope = statistics.fmean(slopes) if slopes else None
    if slopes:
        columns = ["ts", "session", "label_end", "y", *(f"{PART}{name}" for name in weights)]
        track = Lake(run.folder).read_frame(layout.TRACK_RECORD_PREDICTIONS, columns)
        stack = stack_after(track, refit_sessions(run, plan)[-1].session, run.config.evaluation.huber_delta)
        if stack is not None:
            weights, slope = {part.name: part.weight for part in stack.parts}, stack.slope
    return RefitChoices(
        epochs=statistics.median(model.trained_epochs for model in same),
        weights=weights,
        slope=slope,
        trees=round(statistics.median(trees)) if trees else None,
        ridge_penalty=statistics.median_low(penalties) if penalties else None,
        folds=tuple(model.fold.name for model in same),
    )


def refit_sessions(run: Run, plan: FoldPlan) -> list[LabelledSession]:
    """Return the sessions that the shipped model is trained on, as ``training.refit`` says."""
    days = list(labelled_sessions(run).sessions)
    newest, rule = days[-1].session, run.config.training.refit
    if rule == "on_change":
        return [day for day in days if day.session < plan.folds[-1].test.first]
    if rule == "weekly":
        friday = newest - timedelta(days=(newest.weekday() - FRIDAY) % 7)
        return [day for day in days if day.session <= friday] or days
    return days


def write_training_folder(
    folder: Path, frame: pl.DataFrame, statistics_json: object, config: RunConfig, key: str
) -> None:
    """Write a training set, its statistics and the configuration to a folder that training can work in."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / layout.FEATURE_STATISTICS, statistics_json)
    Lake(folder).write_frame(layout.TRAINING_SET, frame, BuildKey({}, key, ""))
    write_text(folder / layout.CONFIG, config.to_json() + "\n")


def labelled_rows(run: Run, first: date, last: date) -> LabelledFrame:
    """Return the labelled rows of the usable sessions from ``first`` to ``last``, read from bars and features.

    Raises:
        ArtifactError: a session's rows are not those that the training set was built from: another run has changed
            bars, features or rolls meanwhile.
    """
    from vpoc_ml.dataset.assemble import BAR_COLUMNS, label_rows
    from vpoc_ml.dataset.folds import labelled_sessions as measured
    from vpoc_ml.dataset.row_runs import take_runs

    stored = labelled_sessions(run)
    known = pl.col("contract").is_in(run.plan().contracts) & (pl.col("first_session") <= stored.last)
    front = run.lake.read_frame(run.roll_key()).filter(known).sort("first_session")
    front = front.with_columns(pl.min_horizontal("last_session", pl.lit(stored.last)))
    begun = front.filter(pl.col("last_session") >= first)
    needed = begun.filter(pl.col("first_session") <= last).height
    if run.config.dataset.horizon.kind == "sessions":
        needed += FOLLOWING
    front = begun.head(needed)
    bars, features = (
        StoredFrames(run.lake, {each: run.key(kind, each) for each in front["contract"]}, columns)
        for kind, columns in (("bars", BAR_COLUMNS), ("features", None))
    )
    rows = label_rows(bars, features, with_exact_ratios(front), run.instrument, run.config)
    inside = take_runs(rows.frame, rows.frame["session"].is_between(first, last))
    planned = {day.session: day.digest for day in stored.sessions if first <= day.session <= last}
    found = {day.session: day.digest for day in measured(inside)}
    changed = sorted(day for day in planned.keys() | found.keys() if planned.get(day) != found.get(day))
    if changed:
        expected = "the rows from which the training set was built"
        raise ArtifactError(f"session {changed[0]}", expected, "others: bars, features or rolls have changed since")
    return replace(rows, frame=inside)


def _period(days: Sequence[date]) -> Period:
    return Period(first=days[0], last=days[-1], sessions=len(days))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
