"""Studies of a run's training set that a person starts: feature analysis, training per seed, search of settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from vpoc_ml.config import RunConfig
from vpoc_ml.lake.atomic import replacing
from vpoc_ml.pipeline.run import Result, Run, stage

log = logging.getLogger(__name__)
RETURNS = "validation_returns.parquet"


@stage
def analyze_features(run: Run) -> Result:
    """Write ``feature-analysis.html`` and ``.json`` among the run's reports.

    Raises:
        MissingInputError: the run has no training set yet.
    """
    from vpoc_ml.analysis.analyze import analyze
    from vpoc_ml.reports.feature_report import write_analysis

    found = analyze(run.folder, run.config)
    page = write_analysis(run.reports / "runs" / run.name, run.name, found)
    rows = sum(found.about.rows.values())
    return {
        "rows_in": rows,
        "rows_out": rows,
        "quarantined": 0,
        "skipped": False,
        "features": len(found.features),
        "report": run.lake.uri(page),
    }


@stage
def train_seeds(
    run: Run,
    seeds: Sequence[int],
    processes: int,
    *,
    on_progress: Callable[[Result], None] = lambda record: None,
) -> Result:
    """Train the run's net once per seed, ``processes`` at a time, and record how the seeds and their mean do.

    Raises:
        InvalidValueError: no seeds, or one twice.
        MissingInputError: the run has no training set yet.
        VpocError: as training a seed raises; a second call goes on where it ended.
    """
    from vpoc_ml.training.launch.seed_study import train_seeds as train

    return train(run.folder, seeds, processes, on_progress)


@stage
def search(
    run: Run,
    trials: int,
    vary: Sequence[str] = (),
    seed: int = 0,
    *,
    on_trial: Callable[[Result], None] = lambda record: None,
) -> Result:
    """Try settings of the model and of training on the run's training set until ``trials`` trials are finished.

    The value of a trial is its rank IC on validation rows; test rows are not looked at. ``search/`` of the run's
    folder holds ``search.json``, the trials' folders and ``returns.parquet``: what each trial earned per validation
    session, before and after costs, for a deflation of the best. Nothing is promoted: run again with the best
    trial's ``overrides``.

    Args:
        run: with a training set.
        trials: how many in all; a second call with more goes on.
        vary: dimensions, see ``training.space``; empty means the default space.
        seed: of the suggestions.
        on_trial: receives the record of each trial as it ends.

    Raises:
        InvalidValueError, UnknownKeyError: the space cannot be searched.
        MissingInputError: the run has no training set.
        WriterBusyError: the run is being searched already.
    """
    from vpoc_ml.training.launch.subprocess import launch
    from vpoc_ml.training.search.space import DEFAULT_SPACE, parse_space
    from vpoc_ml.training.search.study import Search

    space = parse_space(tuple(vary) or DEFAULT_SPACE, run.config)

    def judge(folder: Path, config: RunConfig) -> Result:
        return _judge(run, folder, config)

    def keep(record: Result) -> None:
        _log_trial(run, record)
        run.push()
        on_trial(record)

    with run.lake.writing(f"search-{run.name}", wait_seconds=5.0):
        made = Search(run.folder, space, seed, launch, judge)
        found = made.run(trials, keep)
        for record in found["records"]:  # those that MLflow was away for
            _log_trial(run, record)
        _write_returns(made.folder, found["records"])
    best = found["best"]
    return {
        **{name: found[name] for name in ("finished", "unstable", "impossible", "space", "seed")},
        "best": best["overrides"] if best else None,
        "value": best["value"] if best else None,
        "own_value": next((record["value"] for record in found["records"] if record["own"]), None),
        "search": run.uri("search/search.json"),
        "returns": run.uri("search/returns.parquet"),
    }


def _judge(run: Run, folder: Path, config: RunConfig) -> Result:
    from vpoc_ml.evaluation.evaluate import evaluate_validation
    from vpoc_ml.models.bundle import load_model

    model = load_model(folder / "best_model.json")
    metrics, returns = evaluate_validation(folder / "training_set.parquet", model, config, run.instrument)
    with replacing(folder / RETURNS) as temporary:
        returns.write_parquet(temporary)
    ic = metrics.rank_ic
    # one number for every row has no rank correlation: no skill
    return {"value": ic.value if ic else 0.0, "dead": ic is None, "metrics": metrics.model_dump(mode="json")}


def _write_returns(folder: Path, records: Sequence[Result]) -> None:
    """Write session, gross, net and trades of all judged trials, a trial's number in front."""
    parts = [
        pl.read_parquet(path).select(pl.lit(record["number"], pl.Int32).alias("trial"), pl.all())
        for record in records
        if (path := folder / "trials" / record["trial"] / RETURNS).is_file()
    ]
    if parts:
        with replacing(folder / "returns.parquet") as temporary:
            pl.concat(parts).write_parquet(temporary)


def _log_trial(run: Run, record: Result) -> None:
    """Put the trial into MLflow; a search does not end because MLflow cannot be reached."""
    from vpoc_ml.pipeline.champion_stages import registry_of
    from vpoc_ml.registry.mlflow_trials import log_trial

    try:
        log_trial(registry_of(run.lake).mlflow.tracking_uri, run.name, record)
    except Exception as error:  # noqa: BLE001 - MLflow raises what its transport raises
        log.warning("trial %d is not in MLflow: %s", record["number"], error)
