"""What a contract's features read of the contracts that were front before it.

Prices of a predecessor are multiplied by the ratio measured at the roll, which is known when the roll happens.
They are ticks then, but no longer whole ones: rounding them would bend every small return by up to a tick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.market.instruments import Instrument

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY_SESSIONS = 30
"""Sessions of its predecessors a contract's features read."""
NEEDED_SESSIONS = max(feature.warmup_sessions for feature in REGISTRY.values())
NEEDED_BARS = max(feature.warmup_bars for feature in REGISTRY.values())

DAILY = ("high", "low", "close", "vpoc", "vah", "val")


@dataclass(frozen=True)
class Predecessor:
    """The front contract before another one, up to the roll.

    Attributes:
        bars: its bars of (at most) its last 30 front sessions, raw prices.
        sessions: ``build_sessions`` of these bars.
        ratio: price of the successor over its own at the roll.
        first_session: first session in which the successor is the front contract.
        before: the contract that was front before it, where its own front sessions are fewer than 30; its prices
            are multiplied by both ratios.
    """

    bars: pl.DataFrame
    sessions: pl.DataFrame
    ratio: float
    first_session: date
    before: Predecessor | None = None

    @property
    def session_count(self) -> int:
        """Sessions of history, of the contracts before it too."""
        return self.sessions.height + (self.before.session_count if self.before else 0)

    @property
    def bar_count(self) -> int:
        """Bars of history, of the contracts before it too."""
        return self.bars.height + (self.before.bar_count if self.before else 0)

    @property
    def is_enough(self) -> bool:
        """Whether no feature has a warm-up left after this history."""
        return self.session_count >= NEEDED_SESSIONS and self.bar_count >= NEEDED_BARS


@dataclass(frozen=True)
class Past:
    """Arrays of what lies before the first bar, in ticks of the contract that follows; empty without predecessor.

    ``close`` and ``volume``: one entry a bar, as many as the longest window of bars reaches back. ``daily``: one
    entry a session.
    """

    close: Floats
    volume: Ints
    daily: dict[str, Floats]

    @property
    def sessions(self) -> int:
        """Number of sessions before the first bar."""
        return self.daily["close"].size


def nothing() -> Past:
    """Return the past of a contract without predecessor."""
    return Past(np.empty(0), np.empty(0, np.int64), {name: np.empty(0) for name in DAILY})


def past_of(predecessor: Predecessor, contract: str, instrument: Instrument) -> Past:
    """Return the adjusted past of ``contract``.

    Raises:
        ArtifactError: a predecessor is the contract itself, or reaches into its front period.
        InsufficientSessionsError: the history is shorter than the longest warm-up.
    """
    if not predecessor.is_enough:
        found, why = predecessor.session_count, f"{NEEDED_SESSIONS} sessions and {NEEDED_BARS} bars are the warm-up"
        raise InsufficientSessionsError(f"the history of {contract}", found, NEEDED_SESSIONS, why)
    closes, volumes, daily = [], [], []
    ratio, one, successor = 1.0, predecessor, contract
    while True:
        _refuse(one, successor)
        ratio *= one.ratio
        closes.append(_adjusted(one.bars["close"].tail(NEEDED_BARS), instrument, ratio))
        volumes.append(one.bars["volume"].tail(NEEDED_BARS).to_numpy().astype(np.int64))
        daily.append({name: _adjusted(one.sessions[name], instrument, ratio) for name in DAILY})
        if one.before is None:
            break
        successor, one = one.bars["contract"][0], one.before
    return Past(
        close=_joined(closes)[-NEEDED_BARS:],
        volume=np.concatenate(volumes[::-1])[-NEEDED_BARS:],
        daily={name: _joined(part[name] for part in daily)[-HISTORY_SESSIONS:] for name in DAILY},
    )


def _adjusted(prices: pl.Series, instrument: Instrument, ratio: float) -> Floats:
    return np.asarray(instrument.to_ticks(prices.to_numpy()) * ratio, np.float64)


def _joined(newest_first: Iterable[Floats]) -> Floats:
    return np.concatenate(list(newest_first)[::-1])


def _refuse(one: Predecessor, successor: str) -> None:
    codes = set(one.bars["contract"].unique()) | set(one.sessions["contract"].unique())
    if len(codes) != 1 or successor in codes:
        raise ArtifactError(f"predecessor of {successor}", "bars and sessions of one other contract", ", ".join(codes))
    if not one.bars["ts"].is_sorted() or not one.sessions["session"].is_sorted():
        raise ArtifactError(f"predecessor of {successor}", "rows in order", "rows out of order")
    if not one.ratio > 0:
        raise ArtifactError(f"predecessor of {successor}", "a ratio above 0", str(one.ratio))
    last = max(one.bars["session"].max(), one.sessions["session"].max())  # type: ignore[type-var]
    if last >= one.first_session:  # type: ignore[operator]
        raise ArtifactError(f"predecessor of {successor}", f"sessions before {one.first_session}", str(last))
