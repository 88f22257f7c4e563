"""Evaluate a trained model: candidate, baselines and champion on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.artifacts.metrics import BacktestMetrics, Interval, Metrics, PolicyMetrics, ValidationMetrics
from vpoc_ml.config import EvaluationConfig, RunConfig
from vpoc_ml.dataset.splits import MIN_PART_SESSIONS, SPLITS
from vpoc_ml.errors import ArtifactError, InsufficientSessionsError, MissingInputError
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.backtest import backtest
from vpoc_ml.evaluation.bootstrap import Resamples, draw
from vpoc_ml.evaluation.conformal import residual_quantiles
from vpoc_ml.evaluation.executable import entry_delays, label_skill
from vpoc_ml.evaluation.forecasts import CANDIDATE, CHAMPION, Floats, Forecast, LabelledRows, RankModel, predict
from vpoc_ml.evaluation.metrics import calibration, compare, describe, reduce
from vpoc_ml.evaluation.policy import DecisionRows, choose_policy, evaluate_policy
from vpoc_ml.evaluation.session_scores import SKILL, compared, session_gains, session_ic, session_moments
from vpoc_ml.lake.atomic import replacing, write_json
from vpoc_ml.market.instruments import Instrument


def evaluate_run(
    run_dir: Path,
    config: RunConfig,
    *,
    champion: RankModel | None = None,
    instrument: Instrument,
    more_features: pl.DataFrame | None = None,
) -> Metrics:
    """Evaluate ``best_model`` of ``run_dir`` and write ``metrics.json`` and ``predictions.parquet`` there.

    Only test rows with ``weight`` = 1 count. They are the same for every model. All predictions are scores in rank
    units, whatever target a model was trained on. Huber loss and MAE of every model, the champion included, are
    measured against this run's rank target. The direction of each model uses its own ``zero_rank``. The position policy
    of the candidate is chosen on the validation rows and measured on the test rows. A champion that
    needs features this run does not have is not scored; ``champion_unscored`` holds the reason.

    Args:
        run_dir: folder of the run, with training set and model.
        config: sections ``dataset``, ``model`` and ``evaluation`` are read.
        champion: the model to compare with.
        instrument: point value and costs of the backtest.
        more_features: ts, contract and Float32 columns that the training set lacks and the champion may need.

    Raises:
        MissingInputError: the run has no training set or model.
        ArtifactError: the model needs features that the training set lacks, or a split has no labelled row.
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
) -> Metrics:
    """Evaluate a loaded model as ``evaluate_run`` does."""
    train, validation, test = _read_splits(run_dir / "training_set.parquet", candidate.features)
    zero_rank = rank_of_zero(train["ret"].to_numpy())
    fitted = baselines.fit_baselines(train, validation, candidate.features, zero_rank, config.model.guard_clip)
    forecast = predict(CANDIDATE, candidate, test)
    known = _join_features(test, more_features)
    absent = [name for name in champion.features if name not in known.columns] if champion else []
    rows = LabelledRows.of(test)
    resamples = resamples_of(rows, config.evaluation)
    chosen_on = predict(CANDIDATE, candidate, validation)
    forecasts = [forecast, *baselines.forecasts(fitted, test)]
    rival = predict(CHAMPION, champion, known) if champion is not None and not absent else None
    metrics, scores = measure(test, forecasts, resamples, config, instrument, champion=rival)
    policy = _policy(
        (validation, chosen_on), (test, forecast), metrics.candidate.rank_ic, resamples, config, instrument
    )
    _write_predictions(run_dir / "predictions.parquet", test, [*forecasts, *([rival] if rival else [])])
    unscored = f"the champion needs {', '.join(absent)}, which this run's training set lacks" if absent else None
    own = {"train_rows": train.height, "validation_rows": validation.height, "policy": policy}
    metrics = metrics.model_copy(update=own | {"champion_unscored": unscored})
    write_json(run_dir / "metrics.json", metrics.to_json())
    write_session_scores(run_dir, scores, policy)
    return metrics


def write_session_scores(run_dir: Path, scores: pl.DataFrame, policy: PolicyMetrics | None) -> None:
    """Write ``session_scores.parquet``: the scores and ``net``, the policy's result in dollars, null without one."""
    days = [] if policy is None else policy.daily
    net = pl.DataFrame(
        {"session": [day.session for day in days], "net": [day.net for day in days]},
        schema={"session": pl.String, "net": pl.Float64},
    ).with_columns(pl.col("session").str.to_date())
    with replacing(run_dir / "session_scores.parquet") as temporary:
        scores.join(net, on="session", how="left", maintain_order="left").write_parquet(temporary)


def measure(
    test: pl.DataFrame,
    forecasts: Sequence[Forecast],
    resamples: Resamples,
    config: RunConfig,
    instrument: Instrument,
    *,
    champion: Forecast | None = None,
) -> tuple[Metrics, pl.DataFrame]:
    """Return the metrics of forecasts of the same rows, and the session scores; the candidate's forecast comes first.

    The champion may have predicted only some of the rows: elsewhere its rank is NaN. It is compared on the common rows,
    whose sessions are then resampled on their own.

    Args:
        test: labelled rows sorted by time: ts, contract, session, label_end, y, ret, ret_close and both
            prices.
        forecasts: of the candidate and the baselines.
        resamples: of the sessions of ``test``.
        config: sections ``dataset`` and ``evaluation`` are read.
        instrument: point value and costs of the backtest.
        champion: forecast of the champion; None without one.

    Raises:
        InsufficientSessionsError: the common rows have fewer than three sessions.
    """
    settings, rows, candidate = config.evaluation, LabelledRows.of(test), forecasts[0]
    sums = {forecast.name: reduce(forecast, rows, settings.huber_delta) for forecast in forecasts}
    models = {name: describe(each, resamples) for name, each in sums.items()}
    versus = {name: compare(sums[CANDIDATE], each, resamples) for name, each in sums.items() if name != CANDIDATE}
    shown, common_sessions = list(forecasts), None
    days = test["session"].unique().sort()
    moments = session_moments(test["session"], candidate.rank, rows.y)
    gains = {SKILL: session_ic(moments)} | session_gains(sums)
    scores = moments.select("session").with_columns(pl.Series(name, gain) for name, gain in gains.items())
    if champion is not None:
        common, own_rows, own_resamples = np.isfinite(champion.rank), rows, resamples
        if common.all():
            shown.append(champion)
        else:
            predicted = test.filter(pl.Series(common))
            own_rows, days = LabelledRows.of(predicted), predicted["session"].unique().sort()
            own_resamples, common_sessions = resamples_of(own_rows, settings), own_rows.sessions
        own = [reduce(each.where(common), own_rows, settings.huber_delta) for each in (candidate, champion)]
        models[CHAMPION], versus[CHAMPION] = describe(own[1], own_resamples), compare(own[0], own[1], own_resamples)
        gain = session_gains({CANDIDATE: own[0], CHAMPION: own[1]})[CHAMPION]
        ahead = pl.DataFrame({"session": days, CHAMPION: gain})
        scores = scores.join(ahead, on="session", how="left", maintain_order="left")
    metrics = Metrics(
        rows=test.height,
        sessions=rows.sessions,
        first=test["ts"][0].isoformat(),
        last=test["ts"][-1].isoformat(),
        zero_return_share=float((rows.ret == 0).mean()),
        block="session",
        confidence=settings.confidence,
        bootstrap_samples=settings.bootstrap_samples,
        huber_delta=settings.huber_delta,
        models=models,
        versus=versus,
        backtest=_backtest(test, candidate, resamples, config, instrument),
        calibration=calibration(candidate.rank, rows),
        champion_unscored=None,
        train_rows=0,
        validation_rows=0,
        label=config.dataset.label,
        label_skill=label_skill(test, shown, resamples),
        entry_delays=entry_delays(test, shown),
        champion_sessions=common_sessions,
        residuals=residual_quantiles(rows.y - candidate.rank),
        evidence=compared(scores, config.dataset.horizon.later_sessions + 1),
    )
    return metrics, scores


def evaluate_validation(
    training_set: Path, model: RankModel, config: RunConfig, instrument: Instrument
) -> tuple[ValidationMetrics, pl.DataFrame]:
    """Evaluate a model on the validation rows, to choose between settings without touching the test rows.

    The same rows stopped the training, and the best of many trials is partly luck. The chosen value is therefore no
    estimate of skill. The results per session allow a correction for the number of trials.

    Args:
        training_set: ``training_set.parquet`` of the run; only its validation rows are read.
        model: the trained model.
        config: sections ``dataset`` and ``evaluation`` are read.
        instrument: point value and costs of the backtest.

    Returns:
        The metrics; and a frame session, gross, net, trades with one row per session, in dollars.

    Raises:
        ArtifactError: there are no labelled validation rows.
        InsufficientSessionsError: fewer than three sessions.
    """
    chosen = (pl.col("split") == "validation") & (pl.col("weight") == 1)
    frame = pl.scan_parquet(training_set).filter(chosen).collect().sort("ts", "contract")
    if frame.is_empty():
        raise ArtifactError(training_set, "labelled rows in the validation split", "none")
    if (sessions := frame["session"].n_unique()) < MIN_PART_SESSIONS:
        raise InsufficientSessionsError(
            "the validation split", sessions, MIN_PART_SESSIONS, "intervals come from resampling whole sessions"
        )
    rows, forecast = LabelledRows.of(frame), predict(CANDIDATE, model, frame)
    resamples = resamples_of(rows, config.evaluation)
    found = describe(reduce(forecast, rows, config.evaluation.huber_delta), resamples)
    result = _backtest(frame, forecast, resamples, config, instrument)
    returns = pl.DataFrame([day.model_dump() for day in result.daily]).select(
        pl.col("session").str.to_date(),
        pl.col("gross", "net").cast(pl.Float64),
        pl.col("trades").cast(pl.Int64),
    )
    metrics = ValidationMetrics(
        rank_ic=found.rank_ic,
        direction_accuracy=found.direction_accuracy,
        huber=found.huber,
        net=result.net,
        sharpe=result.sharpe,
    )
    return metrics, returns


def rank_of_zero(returns: Floats) -> float:
    """Return the mid-rank of a zero return among training returns: the threshold of every rank prediction."""
    return float(((returns < 0).sum() + (returns <= 0).sum()) / (2 * returns.size))


def _read_splits(path: Path, features: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the labelled train, validation and test rows of a training set, each sorted by time."""
    if not path.is_file():
        raise MissingInputError(path, "a training set", "Build the training set of this run first.")
    frame = pl.read_parquet(path)
    absent = [name for name in features if name not in frame.columns]
    if absent:
        raise ArtifactError(path, f"the model's features {', '.join(absent)}", "no such columns")
    if "ret_close" not in frame.columns:  # a training set of the previous release, whose label begins at the close
        frame = frame.with_columns(ret_close="ret")
    labelled = frame.filter(pl.col("weight") == 1).sort("ts", "contract")
    parts = {name: labelled.filter(pl.col("split") == name) for name in SPLITS}
    for name, part in parts.items():
        if part.is_empty():
            raise ArtifactError(path, f"labelled rows in the {name} split", "none")
    return parts["train"], parts["validation"], parts["test"]


def resamples_of(rows: LabelledRows, settings: EvaluationConfig) -> Resamples:
    """Draw the resamples of the sessions of ``rows``.

    Raises:
        InsufficientSessionsError: fewer than three sessions.
    """
    return draw(rows.sessions, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed)


def _backtest(
    rows: pl.DataFrame, candidate: Forecast, resamples: Resamples, config: RunConfig, instrument: Instrument
) -> BacktestMetrics:
    return backtest(
        rows,
        candidate.direction,
        resamples,
        point_value=instrument.point_value,
        round_turn_cost=round_turn_cost(config, instrument),
    )


def _policy(
    earlier: tuple[pl.DataFrame, Forecast],
    later: tuple[pl.DataFrame, Forecast],
    rank_ic: Interval | None,
    resamples: Resamples,
    config: RunConfig,
    instrument: Instrument,
) -> PolicyMetrics:
    """Choose a position policy on the earlier rows with their forecast and measure it on the later ones."""
    chosen_on, measured_on = (DecisionRows.of(*part, instrument.tick_size) for part in (earlier, later))
    cost = round_turn_cost(config, instrument)
    policy = choose_policy(chosen_on, cost / instrument.tick_value)
    return evaluate_policy(
        policy,
        chosen_on,
        measured_on,
        resamples,
        rank_ic=rank_ic,
        instrument=instrument,
        round_turn_cost=cost,
    )


def round_turn_cost(config: RunConfig, instrument: Instrument) -> float:
    """Return the costs of a round turn in dollars: the configuration's, else the instrument's."""
    cost = config.evaluation.round_turn_cost
    return instrument.round_turn_cost if cost is None else cost


def _join_features(test: pl.DataFrame, more: pl.DataFrame | None) -> pl.DataFrame:
    """Join the features that the training set lacks to the test rows."""
    if more is None:
        return test
    added = [name for name in more.columns if name not in test.columns]
    return test.join(more.select("ts", "contract", *added), on=["ts", "contract"], how="left", maintain_order="left")


def _write_predictions(path: Path, test: pl.DataFrame, forecasts: Sequence[Forecast]) -> None:
    frame = test.select("ts", "contract", "session", "y", "ret").with_columns(
        pl.Series(forecast.name, forecast.rank, dtype=pl.Float64) for forecast in forecasts
    )
    with replacing(path) as temporary:
        frame.write_parquet(temporary)
