"""The past of a contract: what its features read of the contracts that were front before it.

Prices of a predecessor are multiplied by the ratio measured at the roll, which is known when the roll happens. They
are then in ticks but not whole: rounding would change every small return by up to a tick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.features.clock import minutes_since_open
from vpoc_ml.features.registry import EXTRA_HISTORY, REGISTRY, own_features, selected_features
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.tick_bars import session_starts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY_SESSIONS = 30
"""Sessions of its predecessors that a contract's features read."""
NEEDED_BARS = max(feature.warmup_bars for feature in REGISTRY.values())
"""Bars of the past that the longest window of bars reads."""
DAILY = ("open", "high", "low", "close", "vpoc", "vah", "val")
"""Columns of ``build_sessions`` that features read."""


class RequiredHistory(NamedTuple):
    """History that a set of features requires.

    ``history`` is the largest number of sessions a feature reads; ``sessions`` and ``bars`` are the longest warm-up.
    """

    history: int
    sessions: int
    bars: int


def required_history(extras: Iterable[str] = ()) -> RequiredHistory:
    """Return the history that the registry's features and those of the named optional and own families require."""
    extras = tuple(extras)
    features = selected_features(extras).values()
    own = [each.history for each in own_features().values() if each.family in extras]
    history = max(HISTORY_SESSIONS, *(EXTRA_HISTORY.get(family, 0) for family in extras), *own, 0)
    return RequiredHistory(
        history, max(one.warmup_sessions for one in features), max(one.warmup_bars for one in features)
    )


@dataclass(frozen=True)
class Predecessor:
    """The front contract before another one, up to the roll.

    Attributes:
        bars: its bars of (at most) its last 30 front sessions, raw prices.
        sessions: ``build_sessions`` of these bars.
        ratio: price of the successor over its own price at the roll.
        first_session: first session in which the successor is the front contract.
        before: the contract that was front before it, where its own front sessions are fewer than 30. The prices of
            that contract are multiplied by both ratios.
    """

    bars: pl.DataFrame
    sessions: pl.DataFrame
    ratio: float
    first_session: date
    before: Predecessor | None = None

    @property
    def chain(self) -> list[Predecessor]:
        """This predecessor and those before it, nearest first."""
        return [self, *(self.before.chain if self.before else [])]

    @property
    def session_count(self) -> int:
        """Sessions of history, including those of the contracts before it."""
        return sum(one.sessions.height for one in self.chain)

    def covers(self, required: RequiredHistory) -> bool:
        """Return whether this history is at least as long as the longest warm-up."""
        bars = sum(one.bars.height for one in self.chain)
        return self.session_count >= required.sessions and bars >= required.bars

    def require_before(self, successor: str) -> None:
        """Check that this contract can be front before ``successor``.

        Raises:
            ArtifactError: it is the successor itself, its rows are out of order, the ratio is not above 0, or it has
                sessions in the successor's front period.
        """
        codes = set(self.bars["contract"].unique()) | set(self.sessions["contract"].unique())
        if len(codes) != 1 or successor in codes:
            expected = "bars and sessions of one other contract"
            raise ArtifactError(f"predecessor of {successor}", expected, ", ".join(codes))
        if not self.bars["ts"].is_sorted() or not self.sessions["session"].is_sorted():
            raise ArtifactError(f"predecessor of {successor}", "rows in order", "rows out of order")
        if not self.ratio > 0:
            raise ArtifactError(f"predecessor of {successor}", "a ratio above 0", str(self.ratio))
        last = max(self.bars["session"].max(), self.sessions["session"].max())  # type: ignore[type-var]
        if last >= self.first_session:  # type: ignore[operator]
            raise ArtifactError(f"predecessor of {successor}", f"sessions before {self.first_session}", str(last))


class BarColumns(NamedTuple):
    """Arrays with one entry per bar, oldest first.

    Prices in ticks; ``day`` is the row of the bar's session among all sessions since the start of the past, ``ts`` its
    start in microseconds UTC.
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
    """The complete sessions before the first bar, in ticks of the contract that follows; may be empty.

    ``daily`` has one entry per session and column of ``DAILY``. No feature reads more than these sessions, so a past
    is all that has to be carried from one chunk of bars to the next.
    """

    bars: BarColumns
    daily: dict[str, Floats]

    @property
    def sessions(self) -> int:
        """Number of sessions before the first bar."""
        return self.daily["close"].size


def empty_past() -> Past:
    """Return the past of a contract without predecessor."""
    price, count = np.empty(0), np.empty(0, np.int64)
    return Past(BarColumns(price, price, price, *[count] * 4), dict.fromkeys(DAILY, price))


def extend_past(
    past: Past,
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    instrument: Instrument,
    ratio: float = 1.0,
    *,
    keep: int = HISTORY_SESSIONS,
) -> Past:
    """Return the past with these completed sessions added, cut to the last ``keep`` sessions.

    Args:
        past: the sessions before, in ticks of the contract that follows.
        bars: bars of one contract, sorted by ``ts``.
        sessions: ``build_sessions`` of these bars.
        instrument: gives the tick size.
        ratio: factor on the prices. Volumes stay as traded.
        keep: sessions to keep; more where optional features read more.
    """

    def adjusted(prices: pl.Series) -> Floats:
        return np.asarray(instrument.level_ticks(prices) * ratio, np.float64)

    ts = bars["ts"].to_physical().to_numpy()
    added = BarColumns(
        adjusted(bars["high"]),
        adjusted(bars["low"]),
        adjusted(bars["close"]),
        bars["volume"].to_numpy().astype(np.int64),
        minutes_since_open(ts, session_starts(bars["session"])),
        past.sessions + np.searchsorted(sessions["session"].to_physical(), bars["session"].to_physical()),
        ts,
    )
    dropped = max(past.sessions + sessions.height - keep, 0)
    daily = {name: np.concatenate((past.daily[name], adjusted(sessions[name])))[dropped:] for name in DAILY}
    joined = BarColumns._make(map(np.concatenate, zip(past.bars, added, strict=True)))
    first = int(np.searchsorted(joined.day, dropped))
    kept = BarColumns._make(values[first:] for values in joined)
    return Past(kept._replace(day=kept.day - dropped), daily)


def past_of(
    predecessor: Predecessor, contract: str, instrument: Instrument, required: RequiredHistory | None = None
) -> Past:
    """Return the adjusted past of ``contract``.

    Args:
        predecessor: the front contract before it.
        contract: code of the contract that follows.
        instrument: gives the tick size.
        required: the history to return; None for what the registry's features require.

    Raises:
        ArtifactError: a predecessor is the contract itself, or has sessions in its front period.
        InsufficientSessionsError: the history is shorter than the longest warm-up.
    """
    required = required or required_history()
    if not predecessor.covers(required):
        found, reason = (
            predecessor.session_count,
            f"{required.sessions} sessions and {required.bars} bars are the warm-up",
        )
        raise InsufficientSessionsError(f"the history of {contract}", found, required.sessions, reason)
    chain, successor = predecessor.chain, contract
    for one in chain:
        one.require_before(successor)
        successor = one.bars["contract"][0]
    past, ratios = empty_past(), np.cumprod([one.ratio for one in chain])
    for one, ratio in zip(reversed(chain), reversed(ratios), strict=True):
        past = extend_past(past, one.bars, one.sessions, instrument, float(ratio), keep=required.history)
    return past
