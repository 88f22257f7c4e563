"""The walk-forward track record: the predictions of all folds as one table, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.artifacts.metrics import Metrics, Policy, PolicyMetrics, SessionGain
from vpoc_ml.artifacts.model_card import Stack
from vpoc_ml.artifacts.schemas import TRACK_KEYS
from vpoc_ml.artifacts.track_record import Fold, FoldMetrics, FoldModel, TrackRecord
from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.splits import MIN_PART_SESSIONS
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.bootstrap import Resamples
from vpoc_ml.evaluation.evaluate import measure, resamples_of, round_turn_cost, write_session_scores
from vpoc_ml.evaluation.fold_predictions import LEARNERS, PART
from vpoc_ml.evaluation.forecasts import CANDIDATE, CHAMPION, Floats, Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import compare, correlation, describe, huber, rank_moments, reduce
from vpoc_ml.evaluation.policy import (
    DECISION_COLUMNS,
    DecisionRows,
    apply_policy,
    choose_policy,
    evaluate_policy,
    joined_trades,
)
from vpoc_ml.evaluation.stacked import part_names
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.models.stacking import ALL

POLICY_SESSIONS = 250
"""Sessions before a fold on which its policy is chosen, about a year; more cost more and react later."""
EVALUATED = (*TRACK_KEYS, "fold", *(f"{name}{end}" for name in LEARNERS for end in ("", "_zero")))
"""Columns of a track record that its evaluation reads: all but those of a model's parts."""


def forecasts_of(track: pl.DataFrame, names: Sequence[str] = LEARNERS) -> list[Forecast]:
    """Return the forecasts that a track record holds of these learners; NaN where one has none."""
    ranks, zeros = (
        {name: track[f"{name}{end}"].fill_null(float("nan")).to_numpy() for name in names} for end in ("", "_zero")
    )
    return [
        Forecast(name, ranks[name], zeros[name], name in baselines.DIRECTION_ONLY, name not in baselines.UNRANKED)
        for name in names
    ]


def evaluate_track(
    run_dir: Path,
    track: pl.DataFrame,
    preset_key: str,
    config: RunConfig,
    instrument: Instrument,
    *,
    champion: pl.DataFrame | None = None,
    train_rows: int,
) -> Metrics:
    """Evaluate a preset on its track record and write ``metrics.json`` to ``run_dir``.

    No number here was computed with a model that saw the rows it is measured on. The policy of a fold is chosen on the
    folds before it.

    Args:
        run_dir: folder of the run.
        track: predictions of all folds, sorted by ts, with the column ``fold``.
        preset_key: identity of the folds' settings and code.
        config: sections ``dataset`` and ``evaluation`` are read.
        instrument: tick value, point value, costs and calendar.
        champion: ts, contract, ``champion``, ``champion_zero``: out-of-sample predictions of the champion, as far as
            there are any; None without a champion.
        train_rows: labelled rows on which the shipped model was trained.

    Raises:
        InsufficientSessionsError: fewer than three sessions.
    """
    resamples = resamples_of(LabelledRows.of(track), config.evaluation)
    forecasts, rival, unscored = forecasts_of(track), None, None
    if champion is not None:
        joined = track.select("ts", "contract", "session").join(
            champion, on=["ts", "contract"], how="left", maintain_order="left"
        )
        common = joined.filter(pl.col(CHAMPION).is_finite())["session"].n_unique()
        if common >= MIN_PART_SESSIONS:
            (rival,) = forecasts_of(joined, (CHAMPION,))
        else:
            unscored = (
                f"its out-of-sample predictions cover {common} of the track record's {resamples.sessions} sessions;"
                f" {MIN_PART_SESSIONS} are needed"
            )
    metrics, scores = measure(track, forecasts, resamples, config, instrument, champion=rival)
    metrics = metrics.model_copy(
        update={
            "champion_unscored": unscored,
            "train_rows": train_rows,
            "folds": track["fold"].n_unique(),
            "preset_key": preset_key,
        }
    )
    policy = policy_by_fold(track, forecasts[0], config, instrument)
    metrics = metrics.model_copy(update={"policy": policy})
    write_json(run_dir / "metrics.json", metrics.to_json())
    write_session_scores(run_dir, scores, policy)
    return metrics


def policy_by_fold(
    track: pl.DataFrame, candidate: Forecast, config: RunConfig, instrument: Instrument
) -> PolicyMetrics | None:
    """Choose a policy before every fold but the first, on the sessions before it, and measure it on the fold.

    A single fold is cut into two halves by its sessions. None with fewer than three sessions to measure on.
    """
    parts = _parts(track)
    if sum(len(part) for part in parts[1:]) < MIN_PART_SESSIONS:
        return None
    chosen = policies_by_fold(track, candidate, config, instrument)

    def decided(part: pl.Series) -> DecisionRows:
        return _decision_rows(track, candidate, track["session"].is_in(part.implode()), instrument)

    traded = [apply_policy(policy, decided(part)) for policy, part in zip(chosen.values(), parts[1:], strict=True)]
    measured = track["session"].is_in(pl.concat(parts[1:]).implode())
    rows = LabelledRows.of(track.select("ret", "y", "session").filter(measured))
    resamples = resamples_of(rows, config.evaluation)
    moments = rank_moments(candidate.where(measured.to_numpy()), rows)
    return evaluate_policy(
        list(chosen.values())[-1],
        decided(parts[0]),
        _decision_rows(track, candidate, measured, instrument),
        resamples,
        rank_ic=None if moments is None else resamples.interval(moments, correlation),
        instrument=instrument,
        round_turn_cost=round_turn_cost(config, instrument),
        trades=joined_trades(traded),
    )


def policies_by_fold(
    track: pl.DataFrame, candidate: Forecast, config: RunConfig, instrument: Instrument
) -> dict[date, Policy]:
    """Return the policy of every fold but the first by the fold's first session, oldest first.

    It is chosen on the last ``POLICY_SESSIONS`` sessions before the fold. A row whose label ends in the fold does not
    count: its return is not known when the fold begins. A single fold is cut into two halves by its sessions.
    """
    parts, chosen = _parts(track), {}
    cost = round_turn_cost(config, instrument) / instrument.tick_value
    for number, part in enumerate(parts[1:], start=1):
        before = pl.concat(parts[:number]).tail(POLICY_SESSIONS)
        begin = track.filter(pl.col("session") == part[0])["ts"].min()
        earlier = track.select(pl.col("session").is_in(before.implode()) & (pl.col("label_end") < begin)).to_series()
        chosen[part[0]] = choose_policy(_decision_rows(track, candidate, earlier, instrument), cost)
    return chosen


def _parts(track: pl.DataFrame) -> list[pl.Series]:
    """Return the sessions of each fold, oldest first; of a single fold its two halves."""
    periods = track.select("session", "fold").unique().sort("session")
    if periods["fold"].n_unique() == 1:
        half = pl.int_range(periods.height) < periods.height // 2
        periods = periods.with_columns(fold=pl.when(half).then(pl.lit("first")).otherwise(pl.lit("second")))
    return [part["session"] for part in periods.partition_by("fold", maintain_order=True)]


def _decision_rows(track: pl.DataFrame, candidate: Forecast, chosen: pl.Series, instrument: Instrument) -> DecisionRows:
    return DecisionRows.of(
        track.select(DECISION_COLUMNS).filter(chosen), candidate.where(chosen.to_numpy()), instrument.tick_size
    )


def track_record(
    track: pl.DataFrame,
    folds: Sequence[Fold],
    models: Mapping[str, FoldModel],
    stacks: Mapping[date, Stack],
    preset_key: str,
    config: RunConfig,
) -> TrackRecord:
    """Return the metrics of each fold, and over all folds those of each part and the cumulated gain over each baseline.

    Args:
        track: predictions of all folds, sorted by ts, with the column ``fold``.
        folds: the run's folds, oldest first.
        models: the trained fold of each name.
        stacks: the stack of each session that earlier sessions chose.
        preset_key: identity of the folds' settings and code.
        config: section ``evaluation`` is read.
    """
    names, learners, gains = part_names(track), {}, {}
    if names and track["session"].n_unique() >= MIN_PART_SESSIONS:
        rows = LabelledRows.of(track)
        resamples, delta = resamples_of(rows, config.evaluation), config.evaluation.huber_delta
        constant, *alone = (
            reduce(each, rows, delta) for each in forecasts_of(track, ("constant", *map(PART.__add__, names)))
        )
        learners = {_shown(name): describe(each, resamples) for name, each in zip(names, alone, strict=True)}
        gains = {_shown(name): compare(each, constant, resamples) for name, each in zip(names, alone, strict=True)}
    return TrackRecord(
        preset_key=preset_key,
        rows=track.height,
        sessions=track["session"].n_unique(),
        folds=tuple(
            _fold_metrics(fold, models[fold.name], stacks, track.filter(pl.col("fold") == fold.name), config)
            for fold in folds
        ),
        cumulative=_cumulative_gains(track, config.evaluation.huber_delta),
        learners=learners,
        learner_gains=gains,
    )


def _fold_metrics(
    fold: Fold, model: FoldModel, stacks: Mapping[date, Stack], track: pl.DataFrame, config: RunConfig
) -> FoldMetrics:
    newest = max(stacks.keys() & set(track["session"]), default=None)
    stack = None if newest is None else stacks[newest]
    weights = model.parts if stack is None else {part.name: part.weight for part in stack.parts}
    empty = FoldMetrics(
        fold=fold,
        rows=track.height,
        sessions=track["session"].n_unique(),
        best_epoch=model.best_epoch,
        preset=model.preset,
        train_rows=model.train_rows,
        weights={_shown(name): weight for name, weight in weights.items()},
        slope=model.slope if stack is None else stack.slope,
        models={},
        versus={},
    )
    if empty.sessions < MIN_PART_SESSIONS:
        return empty
    rows = LabelledRows.of(track)
    resamples: Resamples = resamples_of(rows, config.evaluation)
    sums = {each.name: reduce(each, rows, config.evaluation.huber_delta) for each in forecasts_of(track)}
    own = {
        "models": {name: describe(each, resamples) for name, each in sums.items()},
        "versus": {name: compare(sums[CANDIDATE], each, resamples) for name, each in sums.items() if name != CANDIDATE},
    }
    return empty.model_copy(update=own)


def _shown(part: str) -> str:
    """Return the name of a part in reports: the networks of all features are the net of ``model.learners``."""
    return "net" if part == ALL else part


def _cumulative_gains(track: pl.DataFrame, delta: float) -> dict[str, tuple[SessionGain, ...]]:
    """Return by baseline the sum, session by session, of the mean Huber loss that the candidate saves."""
    rows = LabelledRows.of(track)
    days = track["session"].unique().sort().to_list()
    rows_per_session = rows.per_session(np.ones_like(rows.y))[:, 0]
    forecasts = {each.name: each for each in forecasts_of(track) if not each.direction_only}

    def mean_losses(forecast: Forecast) -> Floats:
        losses: Floats = rows.per_session(huber(forecast.rank - rows.y, delta))[:, 0] / rows_per_session
        return losses

    own = mean_losses(forecasts[CANDIDATE])
    return {
        name: tuple(
            SessionGain(session=day.isoformat(), gain=float(gain))
            for day, gain in zip(days, np.cumsum(mean_losses(forecast) - own), strict=True)
        )
        for name, forecast in forecasts.items()
        if name != CANDIDATE
    }
