"""Studies of a run's training set that a person starts: feature analysis, training per seed, search of settings."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.stage_results import AnalysisResult, SearchResult, SeedsResult
from vpoc_ml.artifacts.studies import TrialRecord, TrialScore
from vpoc_ml.artifacts.training_progress import ProgressRecord
from vpoc_ml.config import RunConfig
from vpoc_ml.lake.atomic import replacing
from vpoc_ml.pipeline.run import Run, stage

log = logging.getLogger(__name__)


@stage
def analyze_features(run: Run) -> AnalysisResult:
    """Write ``feature-analysis.html`` and ``.json`` among the run's reports.

    Raises:
        MissingInputError: the run has no training set yet.
    """
    from vpoc_ml.analysis.analyze import analyze
    from vpoc_ml.reports.feature_report import write_analysis

    found = analyze(run.folder, run.config)
    page = write_analysis(run.reports / layout.run_reports(run.name), run.name, found)
    rows = sum(found.about.rows.values())
    report = run.lake.uri(page)
    return AnalysisResult(rows_in=rows, rows_out=rows, skipped=False, features=len(found.features), report=report)


@stage
def train_seeds(
    run: Run,
    seeds: Sequence[int],
    processes: int,
    *,
    on_progress: Callable[[str, ProgressRecord], None] = lambda folder, record: None,
) -> SeedsResult:
    """Train the run's network once per seed, ``processes`` at a time; measure each seed and the mean prediction.

    Raises:
        InvalidValueError: no seeds, or one twice.
        MissingInputError: the run has no training set yet.
        VpocError: as training a seed raises; a second call resumes.
    """
    from vpoc_ml.training.launch.seed_study import train_seeds as train

    return SeedsResult.model_validate(train(run.folder, seeds, processes, on_progress).to_json())


@stage
def search(
    run: Run,
    trials: int,
    vary: Sequence[str] = (),
    seed: int = 0,
    *,
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
) -> SearchResult:
    """Try settings of the model and of training on the run's training set until ``trials`` trials are finished.

    The value of a trial is its rank IC on validation rows; test rows are not read. ``search/`` of the run's
    folder holds ``search.json``, the trials' folders and ``returns.parquet``: the returns of each trial per validation
    session, before and after costs, for a deflation of the best. Nothing is promoted: run again with the best
    trial's ``overrides``.

    Args:
        run: with a training set.
        trials: number of trials in all; a second call with a larger number continues.
        vary: dimensions, see ``training.space``; empty means the default space.
        seed: of the suggestions.
        on_trial: receives the record of each trial as it ends.

    Raises:
        InvalidValueError, UnknownKeyError: the space cannot be searched.
        MissingInputError: the run has no training set.
        WriterBusyError: the run is being searched already.
    """
    from vpoc_ml.evaluation.evaluate import evaluate_validation
    from vpoc_ml.models.bundle import load_model
    from vpoc_ml.training.launch.search import Search
    from vpoc_ml.training.launch.search_space import DEFAULT_SPACE, parse_space
    from vpoc_ml.training.launch.subprocess import launch

    space = parse_space(tuple(vary) or DEFAULT_SPACE, run.config)

    def validate(folder: Path, config: RunConfig) -> TrialScore:
        model = load_model(folder / layout.BEST_MODEL_CARD)
        metrics, returns = evaluate_validation(folder / layout.TRAINING_SET, model, config, run.instrument)
        with replacing(folder / layout.VALIDATION_RETURNS) as temporary:
            returns.write_parquet(temporary)
        ic = metrics.rank_ic
        # one number for every row has no rank correlation: no skill
        return TrialScore(value=ic.value if ic else 0.0, dead=ic is None, metrics=metrics)

    def keep(record: TrialRecord) -> None:
        _log_trial(run, record)
        run.push()
        on_trial(record)

    with run.lake.writing(f"search-{run.name}", wait_seconds=5.0):
        found = Search(run.folder, space, seed, launch, validate).run(trials, keep)
        for record in found.records:  # again, for those that MLflow did not receive
            _log_trial(run, record)
        returns = _write_returns(run.folder, found.records)
    best = found.best
    overfitting, deflated = trial_luck(returns)
    return SearchResult(
        finished=found.finished,
        unstable=found.unstable,
        impossible=found.impossible,
        space=found.space,
        seed=found.seed,
        best=best.overrides if best else None,
        value=best.value if best else None,
        own_value=next((record.value for record in found.records if record.own), None),
        search=run.uri(layout.SEARCH_RESULT),
        returns=run.uri(layout.SEARCH_RETURNS),
        overfitting=overfitting,
        deflated_sharpe=deflated,
    )


def trial_luck(returns: pl.DataFrame) -> tuple[float | None, float | None]:
    """Return the probability of overfitting of a search, and the deflated Sharpe ratio of its best trial.

    Args:
        returns: trial, session, gross, net, trades of each trial per validation session. Results before costs count:
            a trial that trades every minute has the same costs as every other.
    """
    from vpoc_ml.evaluation.significance import (
        FEWEST_PERIODS,
        deflated_sharpe,
        effective_trials,
        overfitting_probability,
    )

    if returns["trial"].n_unique() < 2 or returns["session"].n_unique() < FEWEST_PERIODS:
        return None, None
    table = returns.pivot(on="trial", index="session", values="gross").sort("session").drop("session").drop_nulls()
    gross = table.to_numpy().astype(np.float64)
    if len(gross) < FEWEST_PERIODS:
        return None, None
    spread = gross.std(axis=0, ddof=1)
    sharpes = np.divide(gross.mean(axis=0), spread, out=np.zeros(len(spread)), where=spread > 0)
    deflated = deflated_sharpe(gross[:, int(sharpes.argmax())], effective_trials(gross), float(sharpes.var(ddof=1)))
    return overfitting_probability(gross), deflated if math.isfinite(deflated) else None


def _write_returns(run_dir: Path, records: Sequence[TrialRecord]) -> pl.DataFrame:
    """Write session, gross, net and trades of all evaluated trials, with the trial's number in front; return them."""
    parts = [
        pl.read_parquet(path).select(pl.lit(record.number, pl.Int32).alias("trial"), pl.all())
        for record in records
        if (path := run_dir / layout.TRIALS / record.trial / layout.VALIDATION_RETURNS).is_file()
    ]
    if not parts:
        return pl.DataFrame(schema={"trial": pl.Int32, "session": pl.Date, "gross": pl.Float64})
    returns = pl.concat(parts)
    with replacing(run_dir / layout.SEARCH_RETURNS) as temporary:
        returns.write_parquet(temporary)
    return returns


def _log_trial(run: Run, record: TrialRecord) -> None:
    """Put the trial into MLflow; a search does not end because MLflow cannot be reached."""
    from vpoc_ml.pipeline.champion_stages import registry_of
    from vpoc_ml.registry.mlflow_copies import log_trial

    try:
        log_trial(registry_of(run.lake).mlflow.tracking_uri, run.name, record)
    except Exception as error:  # noqa: BLE001 - MLflow raises what its transport raises
        log.warning("trial %d is not in MLflow: %s", record.number, error)
