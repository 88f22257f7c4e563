"""Judge a trained run on its test rows: candidate, baselines and champion on the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.config import EvaluationConfig, RunConfig
from vpoc_ml.errors import ArtifactError, MissingInputError
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.backtest import backtest
from vpoc_ml.evaluation.bootstrap import draw
from vpoc_ml.evaluation.calibration import calibration
from vpoc_ml.evaluation.forecasts import Floats, Forecast, LabelledRows, RankModel
from vpoc_ml.evaluation.metrics import compare, describe, reduce
from vpoc_ml.lake.atomic import read_json, replacing, write_json
from vpoc_ml.market.instruments import Instrument

CANDIDATE, CHAMPION = "candidate", "champion"


def evaluate_run(
    run_dir: Path,
    config: RunConfig,
    *,
    champion: RankModel | None = None,
    instrument: Instrument,
    more_features: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Judge ``best_model`` of ``run_dir`` and write ``metrics.json`` and ``predictions.parquet`` there.

    ``more_features`` (ts, contract, Float32 columns) holds features the training set lacks but the
    champion may need.

    Only test rows with ``weight`` = 1 count, the same for every model. Whatever a model was trained on, its
    predictions are scores in rank units: Huber and MAE of all, the champion's too, are measured on this
    run's rank target, and the direction of each uses its own ``zero_rank``. A champion that
    needs features this run does not have is not scored, and ``champion_unscored`` says why.

    Raises:
        MissingInputError: the run has no training set or model.
        ArtifactError: the model asks for features the training set lacks, or no row can be judged.
        InsufficientSessionsError: fewer than three test sessions.
    """
    model_file = run_dir / "best_model.json"
    if not model_file.is_file():
        raise MissingInputError(model_file, "a trained model", "Train the run before evaluating it.")
    from vpoc_ml.models.bundle import load_model

    model = load_model(model_file)
    return evaluate_model(run_dir, config, model, champion=champion, instrument=instrument, more_features=more_features)


def evaluate_model(
    run_dir: Path,
    config: RunConfig,
    candidate: RankModel,
    *,
    champion: RankModel | None = None,
    instrument: Instrument,
    more_features: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Do what ``evaluate_run`` does for a model that is already loaded."""
    train, validation, test = read_splits(run_dir / "training_set.parquet", candidate.features)
    forecasts = [predict(CANDIDATE, candidate, test)]
    forecasts += _baselines(train, validation, test, candidate, config.model.guard_clip)
    known = _with_more(test, more_features)
    unscored = _missing(champion, known)
    if champion is not None and unscored is None:
        forecasts.append(predict(CHAMPION, champion, known))
    metrics = measure(test, forecasts, config, instrument)
    metrics["champion_unscored"] = unscored
    metrics["train_rows"], metrics["validation_rows"] = train.height, validation.height
    strict: dict[str, Any] = finite(metrics)
    _write_predictions(run_dir / "predictions.parquet", test, forecasts)
    write_json(run_dir / "metrics.json", strict)
    return strict


def read_splits(path: Path, features: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the labelled train, validation and test rows of a training set, each sorted by time."""
    if not path.is_file():
        raise MissingInputError(path, "a training set", "Build the training set of this run first.")
    frame = pl.read_parquet(path)
    absent = [name for name in features if name not in frame.columns]
    if absent:
        raise ArtifactError(path, f"the model's features {', '.join(absent)}", "no such columns")
    labelled = frame.filter(pl.col("weight") == 1).sort("ts", "contract")
    train, validation, test = (labelled.filter(pl.col("split") == name) for name in ("train", "validation", "test"))
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if part.is_empty():
            raise ArtifactError(path, f"labelled rows in the {name} split", "none")
    return train, validation, test


def predict(name: str, model: RankModel, rows: pl.DataFrame) -> Forecast:
    """Return what ``model`` says about ``rows``."""
    predicted = model.predict(rows.select(model.features).to_numpy())
    return Forecast(name, np.asarray(predicted, dtype=np.float64), float(model.zero_rank))


def measure(
    test: pl.DataFrame, forecasts: Sequence[Forecast], config: RunConfig, instrument: Instrument
) -> dict[str, Any]:
    """Return the metrics of all ``forecasts`` on the rows ``test``; the first is the candidate."""
    settings: EvaluationConfig = config.evaluation
    rows = LabelledRows.of(test)
    cost = instrument.round_turn_cost if settings.round_turn_cost is None else settings.round_turn_cost
    resamples = draw(
        rows.sessions, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed
    )
    sums = {forecast.name: reduce(forecast, rows, settings.huber_delta) for forecast in forecasts}
    candidate = forecasts[0]
    return {
        "rows": test.height,
        "sessions": rows.sessions,
        "from": test["ts"][0].isoformat(),
        "to": test["ts"][-1].isoformat(),
        "zero_return_share": float((rows.ret == 0).mean()),
        "block": "session",
        **settings.model_dump(include={"confidence", "bootstrap_samples", "huber_delta"}),
        "models": {name: describe(one, resamples) for name, one in sums.items()},
        "versus": {
            name: compare(sums[candidate.name], one, resamples) for name, one in sums.items() if name != candidate.name
        },
        "backtest": backtest(
            test,
            candidate.direction,
            resamples,
            horizon_minutes=config.dataset.horizon_minutes,
            point_value=instrument.point_value,
            round_turn_cost=cost,
        ),
        "calibration": calibration(candidate.rank, rows),
    }


def finite(value: Any) -> Any:
    """Return ``value`` with every float that strict JSON cannot hold replaced by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _baselines(
    train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame, model: RankModel, clip: float
) -> list[Forecast]:
    zero_rank = rank_of_zero(train["ret"].to_numpy())
    return [
        baselines.constant(train, test, zero_rank),
        baselines.majority(train, test, zero_rank),
        baselines.last_sign(train, test, zero_rank),
        baselines.ridge(train, validation, test, model.features, zero_rank, clip),
    ]


def rank_of_zero(returns: Floats) -> float:
    """Return the mid-rank of a zero return among training returns: the threshold of whatever predicts ranks."""
    return float(((returns < 0).sum() + (returns <= 0).sum()) / (2 * returns.size))


def _with_more(test: pl.DataFrame, more: pl.DataFrame | None) -> pl.DataFrame:
    """Join the features the training set lacks to the test rows."""
    if more is None:
        return test
    added = [name for name in more.columns if name not in test.columns]
    return test.join(more.select("ts", "contract", *added), on=["ts", "contract"], how="left", maintain_order="left")


def _missing(champion: RankModel | None, test: pl.DataFrame) -> str | None:
    absent = [] if champion is None else [name for name in champion.features if name not in test.columns]
    return f"the champion needs {', '.join(absent)}, which this run's training set lacks" if absent else None


def _write_predictions(path: Path, test: pl.DataFrame, forecasts: Sequence[Forecast]) -> None:
    frame = test.select("ts", "contract", "session", "y", "ret").with_columns(
        pl.Series(forecast.name, forecast.rank, dtype=pl.Float64) for forecast in forecasts
    )
    with replacing(path) as temporary:
        frame.write_parquet(temporary)


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """Return ``metrics.json`` of a run."""
    path = run_dir / "metrics.json"
    if not path.is_file():
        raise MissingInputError(path, "the metrics of the run", "Evaluate the run first.")
    metrics: dict[str, Any] = read_json(path)
    return metrics
