"""What a contract's features read of the contracts that were front before it.

Prices of a predecessor are multiplied by the ratio measured at the roll, which is known when the roll happens.
They are ticks then, but no longer whole ones: rounding them would bend every small return by up to a tick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.features.clock import minutes_since_open
from vpoc_ml.features.optional_registry import EXTRA_HISTORY, selected_features
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.tick_bars import session_starts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY_SESSIONS = 30
"""Sessions of its predecessors a contract's features read."""
NEEDED_BARS = max(feature.warmup_bars for feature in REGISTRY.values())


class RequiredHistory(NamedTuple):
    """What the chosen features ask of the past: sessions they read at most, sessions and bars of their warm-up."""

    history: int
    sessions: int
    bars: int


def required_history(extras: Iterable[str] = ()) -> RequiredHistory:
    """Return what the registry's features and those of the optional families named ask of the past."""
    extras, known = tuple(extras), selected_features(extras).values()
    history = max(HISTORY_SESSIONS, *(EXTRA_HISTORY.get(family, 0) for family in extras), 0)
    return RequiredHistory(history, max(one.warmup_sessions for one in known), max(one.warmup_bars for one in known))


DAILY = ("open", "high", "low", "close", "vpoc", "vah", "val")


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

    def covers(self, needed: RequiredHistory) -> bool:
        """Return whether no feature with these needs has a warm-up left after this history."""
        return self.session_count >= needed.sessions and self.bar_count >= needed.bars


class PastBars(NamedTuple):
    """Arrays with one entry a bar, oldest first.

    Prices in ticks; ``day`` is the bar's row among the past sessions, ``ts`` its start in microseconds UTC.
    """

    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    minute: Ints
    day: Ints
    ts: Ints


@dataclass(frozen=True)
class Past:
    """What lies before the first bar, in ticks of the contract that follows: whole sessions; empty at the start.

    ``daily``: one entry a session. A feature reads no more than these sessions, so the past is all that has to be
    carried from one chunk of bars to the next.
    """

    bars: PastBars
    daily: dict[str, Floats]

    @property
    def sessions(self) -> int:
        """Number of sessions before the first bar."""
        return self.daily["close"].size


def nothing() -> Past:
    """Return the past of a contract without predecessor."""
    price, count = np.empty(0), np.empty(0, np.int64)
    return Past(PastBars(price, price, price, *[count] * 4), dict.fromkeys(DAILY, price))


def after(
    past: Past,
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    instrument: Instrument,
    ratio: float = 1.0,
    *,
    keep: int = HISTORY_SESSIONS,
) -> Past:
    """Return the past with these completed sessions added: the last ``keep`` of all.

    Args:
        past: what lay before, in the ticks wanted.
        bars: bars of one contract, sorted by ``ts``.
        sessions: ``build_sessions`` of these bars.
        instrument: gives the tick size.
        ratio: factor on the prices; volumes stay as they were traded.
        keep: sessions to hold; more where optional features read more.
    """
    ts, starts = bars["ts"].to_physical().to_numpy(), session_starts(bars["session"])
    added = PastBars(
        _adjusted(bars["high"], instrument, ratio),
        _adjusted(bars["low"], instrument, ratio),
        _adjusted(bars["close"], instrument, ratio),
        bars["volume"].to_numpy().astype(np.int64),
        minutes_since_open(ts, starts),
        past.sessions + np.searchsorted(sessions["session"].to_physical(), bars["session"].to_physical()),
        ts,
    )
    daily = {name: np.concatenate((past.daily[name], _adjusted(sessions[name], instrument, ratio))) for name in DAILY}
    return _trimmed(Past(PastBars._make(map(_joined, past.bars, added)), daily), keep)


def _trimmed(past: Past, keep: int) -> Past:
    gone = max(past.sessions - keep, 0)
    first = int(np.searchsorted(past.bars.day, gone))
    bars = PastBars._make(values[first:] for values in past.bars)
    return Past(bars._replace(day=bars.day - gone), {name: values[gone:] for name, values in past.daily.items()})


def past_of(
    predecessor: Predecessor, contract: str, instrument: Instrument, needed: RequiredHistory | None = None
) -> Past:
    """Return the adjusted past of ``contract``, as much as is needed; None: by the registry's features.

    Raises:
        ArtifactError: a predecessor is the contract itself, or reaches into its front period.
        InsufficientSessionsError: the history is shorter than the longest warm-up.
    """
    needed = needed or required_history()
    if not predecessor.covers(needed):
        found, why = predecessor.session_count, f"{needed.sessions} sessions and {needed.bars} bars are the warm-up"
        raise InsufficientSessionsError(f"the history of {contract}", found, needed.sessions, why)
    chain, successor = [predecessor], contract
    while chain[-1].before is not None:
        chain.append(chain[-1].before)
    ratios = np.cumprod([one.ratio for one in chain])
    for one in chain:
        _refuse(one, successor)
        successor = one.bars["contract"][0]
    past = nothing()
    for one, ratio in zip(reversed(chain), reversed(ratios), strict=True):
        past = after(past, one.bars, one.sessions, instrument, float(ratio), keep=needed.history)
    return past


def _adjusted(prices: pl.Series, instrument: Instrument, ratio: float) -> Floats:
    return np.asarray(instrument.level_ticks(prices) * ratio, np.float64)


def _joined(before: NDArray[Any], added: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate((before, added))


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
