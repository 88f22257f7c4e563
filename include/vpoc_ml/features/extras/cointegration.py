"""Residual of a pair: distance of the close from its least-squares estimate by another instrument's close.

Engle and Granger, Co-integration and error correction, Econometrica 55 (1987): least squares of one log price on the
other, refitted at the start of each session on the 20 completed sessions before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.profile.kernels import Ints

SESSIONS = 20
FEWEST_BARS = 100
SMALLEST_SPREAD = 1e-5
"""Smallest standard deviation of the residual, in logs: a tenth of a basis point."""


class Line(NamedTuple):
    """ln own = intercept + hedge ln other + residual, and the standard deviation of the residual."""

    intercept: float
    hedge: float
    spread: float


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the residual in standard deviations of the last 20 sessions' residuals, and the hedge ratio.

    Raises:
        ArtifactError: the inputs have no pair, or one out of order or with a price at or below 0.
    """
    if x.pair is None:
        raise ArtifactError("family cointegration", "the other instrument's closes", "none; set features.pair")
    if not x.pair["ts"].is_sorted():
        late = x.pair.filter(pl.col("ts") < pl.col("ts").shift(1))["ts"][0]
        raise ArtifactError(
            "the other instrument's closes", "rows sorted by ts", f"{late} after a later one; sort them"
        )
    if not (x.pair["close"] > 0).all():
        ts, price = x.pair.filter(~(pl.col("close") > 0)).select("ts", "close").row(0)
        raise ArtifactError(
            "the other instrument's closes", "prices above 0, which have a logarithm", f"{price:g} at {ts}"
        )
    times, closes = x.pair["ts"].to_physical().to_numpy(), x.pair["close"].to_numpy()
    history, starts = x.full_history, x.full_history.starts
    own, other = history.log_close, np.log(as_known(history.ts, times, closes))
    found = np.full((2, own.size), np.nan)
    for at in range(max(x.past_sessions, SESSIONS), starts.size - 1):
        window, rows = slice(starts[at - SESSIONS], starts[at]), slice(starts[at], starts[at + 1])
        line = fit(own[window], other[window])
        if line is not None:
            found[0, rows] = (own[rows] - line.intercept - line.hedge * other[rows]) / line.spread
            found[1, rows] = np.where(np.isnan(other[rows]), np.nan, line.hedge)
    return {"coint_z_20d": history.own(found[0]), "coint_hedge_20d": history.own(found[1])}


def continuous_closes(parts: Sequence[tuple[pl.DataFrame, float]]) -> pl.DataFrame:
    """Return one series of closes over several front periods, on the scale of the first.

    Closes of later contracts are divided by the ratios of the rolls before them, so past values never change.

    Args:
        parts: ``ts, close`` of each front period, oldest first, and the ratio of the roll into it (new over old
            price); the ratio of the first is not used.
    """
    scaled, factor = [], 1.0
    for at, (closes, ratio) in enumerate(parts):
        factor *= ratio if at else 1.0
        scaled.append(closes.select("ts", pl.col("close") / factor))
    return pl.concat(scaled)


def fit(own: Floats, other: Floats) -> Line | None:
    """Return the line through the bars at which both closes are known; None with fewer than 100 of them.

    Args:
        own: (rows,) log closes.
        other: (rows,) log closes known at the same time, NaN where none was.
    """
    known = np.isfinite(other)
    if int(known.sum()) < FEWEST_BARS:
        return None
    base_own, base_other = float(own[known][0]), float(other[known][0])
    left, right = own[known] - base_own, other[known] - base_other
    mean_left, mean_right = float(left.mean()), float(right.mean())
    left, right = left - mean_left, right - mean_right
    variance = float(np.sum(right * right))
    hedge = float(np.sum(left * right)) / variance if variance > 0 else 0.0
    residual = left - hedge * right
    spread = max(float(np.sqrt(np.sum(residual**2) / (residual.size - 2))), SMALLEST_SPREAD)
    return Line(base_own + mean_left - hedge * (base_other + mean_right), hedge, spread)


def as_known(times: Ints, other_times: Ints, other_close: Floats) -> Floats:
    """Return the other instrument's last close known at the close of each bar; NaN before its first.

    Timestamps of both series are the starts of one-minute bars, so bars with equal timestamps close together.

    Args:
        times: (rows,) starts of the bars, microseconds UTC, increasing.
        other_times: (bars,) starts of the other's bars, increasing.
        other_close: (bars,) its closes, one continuous series.
    """
    last = np.searchsorted(other_times, times, side="right") - 1
    if not other_close.size:
        return np.full(times.size, np.nan)
    return np.where(last >= 0, other_close[np.maximum(last, 0)], np.nan)
