"""Direction accuracy, rank IC, Huber and MAE of a forecast, each with its interval, and its calibration by decile.

At a horizon of minutes a loss curve cannot show skill: even a model with the attainable 53 % accuracy lowers the Huber
loss by only 0.4 %. Direction accuracy and rank IC, compared with baselines on the same rows, can show it. All Huber
losses use one fixed delta, because losses at different deltas are not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpoc_ml.artifacts.metrics import CalibrationBin, Gains, Interval, ModelMetrics
from vpoc_ml.evaluation.bootstrap import Resamples, Statistic
from vpoc_ml.evaluation.forecasts import Floats, Forecast, LabelledRows, centred_ranks


def hits(forecast: Forecast, ret: Floats) -> Floats:
    """Return 1 where the direction was right, 0 where it was wrong, 0.5 where the forecast had none, (n,).

    A forecast exactly on its threshold counts as half right, like a random guess. If it counted as wrong, a constant on
    its threshold would lose by 50 points, and every model would seem skilled in comparison.
    """
    agreement = forecast.direction * np.sign(ret)
    return 0.5 * (1.0 + agreement)


def huber(error: Floats, delta: float) -> Floats:
    """Return e^2/2 within ``delta`` and delta (|e| - delta/2) beyond it, elementwise."""
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def ratio(sums: Floats) -> Floats:
    """Return the first sum divided by the second."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def correlation(sums: Floats) -> Floats:
    """Return Pearson's correlation from the sums n, x, y, xx, yy, xy; NaN without variance."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (xx - x * x / n) * (yy - y * y / n)
        return np.asarray(np.where(spread > 0, (xy - x * y / n) / np.sqrt(spread), np.nan))


@dataclass(frozen=True)
class SessionSums:
    """The sums of one forecast by session. None where the forecast has no such metric."""

    accuracy: Floats
    rank_ic: Floats | None
    huber: Floats | None
    mae: Floats | None


def reduce(forecast: Forecast, rows: LabelledRows, delta: float) -> SessionSums:
    """Reduce ``forecast`` to sums by session, from which every metric is computed.

    Ranks for the rank IC are computed once over all rows and reused in the resamples. The value equals Spearman's rho
    (average ranks for ties). The interval neglects the second-order effect of ranking each resample anew.
    """
    moved = (rows.ret != 0).astype(np.float64)
    one = np.ones_like(rows.ret)
    accuracy = rows.per_session(hits(forecast, rows.ret) * moved, moved)
    if forecast.direction_only:
        return SessionSums(accuracy, None, None, None)
    error = forecast.rank - rows.y
    return SessionSums(
        accuracy,
        rank_moments(forecast, rows),
        rows.per_session(huber(error, delta), one),
        rows.per_session(np.abs(error), one),
    )


def describe(sums: SessionSums, resamples: Resamples) -> ModelMetrics:
    """Return each metric with its interval; None for a metric that the forecast does not have."""

    def interval(of: Floats | None, statistic: Statistic) -> Interval | None:
        return None if of is None else resamples.interval(of, statistic)

    return ModelMetrics(
        direction_accuracy=interval(sums.accuracy, ratio),
        rank_ic=interval(sums.rank_ic, correlation),
        huber=interval(sums.huber, ratio),
        mae=interval(sums.mae, ratio),
    )


def compare(candidate: SessionSums, other: SessionSums, resamples: Resamples) -> Gains:
    """Return the candidate's gains over ``other`` on the same resamples. Above zero the candidate is better.

    ``huber_gain`` is therefore the other's loss minus the candidate's.
    """

    def gain(first: Floats | None, second: Floats | None, statistic: Statistic) -> Interval | None:
        if first is None or second is None:
            return None
        return resamples.interval(np.hstack([first, second]), statistic)

    return Gains(
        direction_accuracy_gain=gain(candidate.accuracy, other.accuracy, ratio_gain),
        rank_ic_gain=gain(candidate.rank_ic, other.rank_ic, correlation_gain),
        huber_gain=gain(other.huber, candidate.huber, ratio_gain),
    )


def ratio_gain(sums: Floats) -> Floats:
    """Return the ratio of the first two sums minus the ratio of the last two."""
    return ratio(sums[..., :2]) - ratio(sums[..., 2:])


def correlation_gain(sums: Floats) -> Floats:
    """Return the correlation of the first six sums minus that of the last six."""
    return correlation(sums[..., :6]) - correlation(sums[..., 6:])


def rank_moments(forecast: Forecast, rows: LabelledRows) -> Floats | None:
    """Return the sums n, x, y, xx, yy, xy of centred ranks by session; None for a constant forecast."""
    if not forecast.ranked or np.ptp(forecast.rank) == 0 or np.ptp(rows.ret) == 0:
        return None
    x, y = centred_ranks(forecast.rank, forecast.order), rows.ret_rank
    return rows.per_session(np.ones(len(x)), x, y, x * x, y * y, x * y)


BINS = 10


def calibration(prediction: Floats, rows: LabelledRows, bins: int = BINS) -> tuple[CalibrationBin, ...]:
    """Return rows, mean prediction, mean realised rank and share of rises of each decile of ``prediction`` (n,).

    ``up_share`` is the share of rises among the rows that moved; None if none did. Equal predictions are in one bin, so
    a model with few distinct predictions has fewer bins.
    """
    edges = np.unique(np.quantile(prediction, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, prediction, side="right")
    found = []
    for number in np.unique(bin_of):
        members = bin_of == number
        up, moved = int((rows.ret[members] > 0).sum()), int((rows.ret[members] != 0).sum())
        found.append(
            CalibrationBin(
                rows=int(members.sum()),
                prediction=float(prediction[members].mean()),
                realised=float(rows.y[members].mean()),
                up_share=up / moved if moved else None,
            )
        )
    return tuple(found)
