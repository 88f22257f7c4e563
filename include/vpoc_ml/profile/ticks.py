"""Bars as the kernels take them: int64 ticks, int64 contracts, and where each session starts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import CLOSE_ONLY, TRIANGULAR, UNIFORM, Ints, Rule, TickBars

SPREADS = {"uniform": UNIFORM, "close_only": CLOSE_ONLY, "triangular": TRIANGULAR}


def tick_bars(bars: pl.DataFrame, instrument: Instrument) -> TickBars:
    """Return the bars of one contract in kernel form.

    Args:
        bars: canonical bars, sorted by ``ts``, all of one contract.
        instrument: gives the tick size.

    Raises:
        ArtifactError: more than one contract, sessions out of order, or a bar whose low, high, close
            or volume contradict each other.
    """
    _refuse_unordered(bars)
    low, high, close = (
        np.ascontiguousarray(instrument.to_ticks(bars[name].to_numpy()), np.int64) for name in ("low", "high", "close")
    )
    volume = np.ascontiguousarray(bars["volume"].to_numpy(), np.int64)
    wrong = np.flatnonzero((low > close) | (close > high) | (volume < 0))
    if wrong.size:
        found = f"{wrong.size} bars that contradict it, the first at {bars['ts'][int(wrong[0])]}"
        raise ArtifactError("bars", "low <= close <= high and volume >= 0 in every bar", found)
    return TickBars(low, high, close, volume, session_starts(bars["session"]))


def session_starts(session: pl.Series) -> Ints:
    """Return the first row of each run of equal sessions and, last, the number of rows."""
    days = session.to_physical().to_numpy()
    changes = np.flatnonzero(days[1:] != days[:-1]) + 1
    edges = np.concatenate(([0], changes, [days.size])) if days.size else np.array([0])
    return edges.astype(np.int64)


def refuse_other_sessions(days: pl.Series, sessions: pl.Series) -> None:
    """Raise ArtifactError unless ``sessions`` are ``days``, the sessions of the bars, one by one and in order."""
    if sessions.equals(days):
        return
    lacking, more = days.filter(~days.is_in(sessions.implode())), sessions.filter(~sessions.is_in(days.implode()))
    wrong = (("none of", lacking), ("one without bars,", more))
    told = [f"{which} {found[0]}" for which, found in wrong if found.len()]
    raise ArtifactError("sessions", "one row for every session of the bars, in order", "; ".join(told) or "rows twice")


def profile_rule(config: ProfileConfig) -> Rule:
    """Return the value area's rule in integers, 0.70 becomes 7/10, and the spread."""
    share = Fraction(config.value_area).limit_denominator(10_000)
    step = 2 if config.value_area_rule == "two_price" else 1
    return Rule(share.numerator, share.denominator, step, SPREADS[config.spread])


def _refuse_unordered(bars: pl.DataFrame) -> None:
    if not bars["session"].is_sorted() or not bars["ts"].is_sorted():
        raise ArtifactError("bars", "rows sorted by time, sessions in order", "rows out of order")
    if bars["contract"].n_unique() > 1:
        raise ArtifactError("bars", "the bars of one contract", f"{bars['contract'].n_unique()} contracts")
