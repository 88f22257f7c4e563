"""Bars in the form the kernels take: int64 ticks, int64 contracts and the first row of each session."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np
import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import CLOSE_ONLY, TRIANGULAR, UNIFORM, Ints, Rule, TickBars

SPREADS = {"uniform": UNIFORM, "close_only": CLOSE_ONLY, "triangular": TRIANGULAR}

Anchor = Literal["session", "rth", "overnight"]
"""The bars a profile is made of: the full session, its regular hours, or the night before them."""


def select_anchor(bars: pl.DataFrame, anchor: Anchor) -> pl.DataFrame:
    """Return the rows of canonical bars that belong to an anchor.

    ``rth`` selects the bars of regular hours. ``overnight`` selects the bars of a session before its first RTH bar, or
    all of them where the session has no RTH bar. The hour after RTH belongs to neither. The choice for a bar never
    depends on later bars.
    """
    if anchor == "session":
        return bars
    if anchor == "rth":
        return bars.filter("rth")
    return bars.filter(~pl.col("rth").cum_max().over("session"))


def tick_bars(bars: pl.DataFrame, instrument: Instrument) -> TickBars:
    """Return the bars of one contract in kernel form.

    Args:
        bars: canonical bars, sorted by ``ts``, all of one contract.
        instrument: gives the tick size.

    Raises:
        ArtifactError: more than one contract, sessions out of order, a bar with close outside low..high, or a
            negative volume.
    """
    if not bars["session"].is_sorted() or not bars["ts"].is_sorted():
        raise ArtifactError("bars", "rows sorted by time, sessions in order", "rows out of order")
    if bars["contract"].n_unique() > 1:
        raise ArtifactError("bars", "the bars of one contract", f"{bars['contract'].n_unique()} contracts")
    low, high, close = (
        np.ascontiguousarray(instrument.to_ticks(bars[name].to_numpy()), np.int64) for name in ("low", "high", "close")
    )
    volume = np.ascontiguousarray(bars["volume"].to_numpy(), np.int64)
    invalid = np.flatnonzero((low > close) | (close > high) | (volume < 0))
    if invalid.size:
        found = f"{invalid.size} bars that contradict it, the first at {bars['ts'][int(invalid[0])]}"
        raise ArtifactError("bars", "low <= close <= high and volume >= 0 in every bar", found)
    return TickBars(low, high, close, volume, session_starts(bars["session"]))


def session_starts(session: pl.Series) -> Ints:
    """Return the first row of each run of equal sessions and, as the last entry, the number of rows."""
    days = session.to_physical().to_numpy()
    changes = np.flatnonzero(days[1:] != days[:-1]) + 1
    edges = np.concatenate(([0], changes, [days.size])) if days.size else np.array([0])
    return edges.astype(np.int64)


def require_matching_sessions(days: pl.Series, sessions: pl.Series) -> None:
    """Check that ``sessions`` equals ``days``, the sessions of the bars, entry by entry.

    Raises:
        ArtifactError: a session is missing, has no bars, or occurs twice.
    """
    if sessions.equals(days):
        return
    missing, extra = days.filter(~days.is_in(sessions.implode())), sessions.filter(~sessions.is_in(days.implode()))
    differences = (("none of", missing), ("one without bars,", extra))
    found = "; ".join(f"{which} {rows[0]}" for which, rows in differences if rows.len()) or "rows twice"
    raise ArtifactError("sessions", "one row for every session of the bars, in order", found)


def profile_rule(config: ProfileConfig) -> Rule:
    """Return the rule of the value area in integers (0.70 becomes 7/10) and the spread."""
    share = Fraction(config.value_area).limit_denominator(10_000)
    step = 2 if config.value_area_rule == "two_price" else 1
    return Rule(share.numerator, share.denominator, step, SPREADS[config.spread])
