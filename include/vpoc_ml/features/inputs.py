"""What every feature is computed from: arrays aligned to the bars, prices in ticks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.clock import minutes_since_open
from vpoc_ml.features.history import DAILY, NEEDED_BARS, Past, nothing
from vpoc_ml.features.minutes import Grid, volume_grid
from vpoc_ml.features.series import fixed_point, lagged, sum_before
from vpoc_ml.features.windows import rolling_sum, sum_within
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints, TickBars
from vpoc_ml.profile.naked import follow_naked
from vpoc_ml.profile.standing import standing
from vpoc_ml.profile.ticks import SPREADS, session_starts

Floats = NDArray[np.float64]

ATR_SESSIONS = 14
SQUARE_BITS = 54
"""Fixed point of a squared return: one tick of ES keeps 7 digits, and 390 returns of e (the cap) still fit.

Integer sums are exact: a flat window gives 0, and nothing remains of a jump that has left it.
"""
NAKED_SESSIONS = 20
"""Sessions after which a level is forgotten, naked or not."""


@dataclass(frozen=True)
class Inputs:
    """One contract and its past. Arrays have one entry a bar of the contract.

    Those of ``daily`` and ``atr`` have one a session, in order, the past ones first; ``day`` is each bar's
    place among them. ``pair`` is the other instrument's ``ts, close``, one continuous series, where one is asked for.
    """

    frame: pl.DataFrame
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    levels: dict[str, Ints]
    daily: dict[str, Floats]
    day: Ints
    past: Past
    vix: pl.DataFrame
    instrument: Instrument
    profile: ProfileConfig
    pair: pl.DataFrame | None = None

    def whole(self, name: str) -> NDArray[Any]:
        """Return a column of ``PastBars`` over all past sessions, then over the bars."""
        return np.concatenate((getattr(self.past.bars, name), getattr(self, name)))

    def recent(self, name: str) -> Floats:
        """Return the past as far as the longest window of bars reaches, then the bars: what windows run over."""
        past = getattr(self.past.bars, name)
        return np.concatenate((past[max(past.size - NEEDED_BARS, 0) :], getattr(self, name)))

    def own(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entries that belong to the bars, of an array that begins with the past."""
        return values[values.size - self.close.size :]

    @cached_property
    def long_close(self) -> Floats:
        """Closes of the past, then the contract's own."""
        return self.recent("close")

    @cached_property
    def long_volume(self) -> Ints:
        """Volumes of the past, as traded, then the contract's own."""
        return self.recent("volume").astype(np.int64)

    def after_window(self, values: Floats, before: int) -> Floats:
        """Return the entries that belong to the bars, NaN where fewer than ``before`` bars lie before one.

        ``values`` begin with the past and are spent: the NaN are written into them.
        """
        values[:before] = np.nan
        return self.own(values)

    def close_ago(self, bars: int) -> Floats:
        """Return the close ``bars`` bars earlier, NaN where there was none."""
        return self.own(lagged(self.long_close, bars))

    @cached_property
    def long_change(self) -> Floats:
        """Change of the close over one bar in ticks, of the past, then of the bars; 0 in the very first."""
        return np.diff(self.long_close, prepend=self.long_close[:1])

    @cached_property
    def long_log(self) -> Floats:
        """Logarithm of ``long_close``: a log return is a difference, wrong by 4e-15 at most."""
        return self.whole_log[self.whole_log.size - self.long_close.size :]

    @cached_property
    def whole_log(self) -> Floats:
        """Logarithm of the closes of all past sessions, then of the bars, taken once."""
        return np.asarray(np.log(self.whole("close")), np.float64)

    @cached_property
    def long_return(self) -> Floats:
        """Log return of the close over one bar, of the past, then of the bars; 0 in the very first."""
        return np.diff(self.long_log, prepend=self.long_log[:1])

    @cached_property
    def long_squares(self) -> Ints:
        """Squares of ``long_return`` in fixed point."""
        return fixed_squares(self.long_return)

    @cached_property
    def square_sum(self) -> Floats:
        """Sum of the last 390 ``long_squares``."""
        return np.asarray(rolling_sum(self.long_squares, 390), np.float64)

    @cached_property
    def variance(self) -> Floats:
        """Sum of squared percent returns of each session of ``daily``, from bar to bar and first from its open."""
        close, edges = self.whole_log, np.searchsorted(self.whole("day"), np.arange(self.daily["open"].size + 1))
        returns = np.diff(close, prepend=close[:1])
        returns[edges[:-1]] = close[edges[:-1]] - np.log(self.daily["open"])
        total = np.concatenate(([0], np.cumsum(fixed_squares(returns))))
        return np.asarray(1e4 * np.diff(total[edges]) / 2.0**SQUARE_BITS, np.float64)

    @cached_property
    def starts(self) -> Ints:
        """Row of the first bar of each session of the bars, then the number of bars."""
        return session_starts(self.frame["session"])

    @cached_property
    def long_starts(self) -> Ints:
        """Like ``starts``, as rows of the arrays that begin with the past."""
        return self.starts + (self.long_close.size - self.close.size)

    def at_open(self, values: Ints) -> Ints:
        """Return, for every bar, the value of the first bar of its session."""
        return np.repeat(values[self.starts[:-1]], np.diff(self.starts))

    def so_far(self, values: Ints) -> Ints:
        """Return the sum over the bar and those before it in its session."""
        return np.asarray(sum_within(values, self.starts), np.int64)

    @cached_property
    def volume_so_far(self) -> Ints:
        """Volume of the session up to and with the bar."""
        return self.so_far(self.volume)

    @cached_property
    def three_prices(self) -> Ints:
        """H + L + C of each bar: three times its price in a VWAP."""
        return self.high + self.low + self.close

    @cached_property
    def value_so_far(self) -> Ints:
        """Sum of ``three_prices`` times volume over the session up to and with the bar."""
        return self.so_far(self.three_prices * self.volume)

    @cached_property
    def volume_grid(self) -> Grid:
        """Volumes by session of ``daily`` and minute, as traded."""
        day, minute, volume = (self.whole(name).astype(np.int64) for name in ("day", "minute", "volume"))
        return volume_grid(day, minute, volume, self.daily["close"].size)

    @cached_property
    def minute(self) -> Ints:
        """Minutes from the open of the session to the start of the bar."""
        return minutes_since_open(self.frame["ts"])

    @cached_property
    def ts(self) -> Ints:
        """Start of each bar, microseconds UTC."""
        return np.asarray(self.frame["ts"].to_physical().to_numpy(), np.int64)

    @cached_property
    def atr(self) -> Floats:
        """Mean true range of the 14 sessions before each session, in ticks, at least 1; NaN before the 15th."""
        high, low, close = self.daily["high"], self.daily["low"], self.daily["close"]
        before = np.concatenate((close[:1], close[:-1]))  # the first session has only its own range
        true_range = np.maximum(high, before) - np.minimum(low, before)
        return np.maximum(sum_before(true_range, ATR_SESSIONS) / ATR_SESSIONS, 1.0)

    @cached_property
    def standing(self) -> Ints:
        """Units at the developing VPOC, at or below the close, and all of the session so far: three a bar."""
        bars = TickBars(self.low, self.high, self.close, self.volume, self.starts)
        return standing(bars, SPREADS[self.profile.spread], self.levels["vpoc"])

    @cached_property
    def naked(self) -> Ints:
        """Per bar the number of naked VPOCs of 20 sessions, the nearest above and below the close, ``ABSENT`` if none.

        Prices before the roll are rounded to whole ticks after their adjustment.
        """
        bars = self.ticks_since(0)
        vpoc = np.rint(self.daily["vpoc"]).astype(np.int64)
        found = follow_naked(bars.low, bars.high, bars.close, bars.starts, vpoc, NAKED_SESSIONS)[0]
        return np.asarray(found[bars.low.size - self.close.size :])

    def ticks_since(self, session: int) -> TickBars:
        """Return the bars from a row of ``daily`` on, those of the past rounded to whole ticks."""
        day = self.whole("day")
        first = int(np.searchsorted(day, session))
        low, high, close, volume = (
            np.rint(self.whole(name)[first:]).astype(np.int64) for name in ("low", "high", "close", "volume")
        )
        starts = np.searchsorted(day, np.arange(session, self.daily["close"].size + 1)) - first
        return TickBars(low, high, close, volume, starts.astype(np.int64))

    def of_session(self, values: NDArray[np.generic], ago: int = 0) -> Floats:
        """Return, for every bar, a session's value ``ago`` sessions before the bar's; NaN where there is none."""
        return np.repeat(lagged(values, ago)[self.day[self.starts[:-1]]], np.diff(self.starts))


def fixed_squares(returns: Floats) -> Ints:
    """Return squares in fixed point of ``SQUARE_BITS``, each at most 1."""
    return fixed_point(np.minimum(returns**2, 1.0), SQUARE_BITS)


def gather(
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    developing: pl.DataFrame,
    vix: pl.DataFrame,
    instrument: Instrument,
    past: Past | None = None,
    profile: ProfileConfig | None = None,
    pair: pl.DataFrame | None = None,
) -> Inputs:
    """Return the arrays of one contract, after its past.

    Raises:
        ArtifactError: the bars hold several contracts or are out of order, the developing levels are not
            those of the bars, or a session of the bars is missing.
    """
    _refuse_mismatch(bars, sessions, developing)

    def ticks(frame: pl.DataFrame, *names: str) -> dict[str, Ints]:
        return {name: instrument.to_ticks(frame[name].to_numpy()) for name in names}

    price, own, before = ticks(bars, "open", "high", "low", "close"), ticks(sessions, *DAILY), past or nothing()
    return Inputs(
        frame=bars,
        volume=bars["volume"].to_numpy().astype(np.int64),
        levels=ticks(developing, "vpoc", "vah", "val"),
        daily={name: np.concatenate((before.daily[name], own[name])) for name in DAILY},
        day=before.sessions + _row_of(bars["session"], sessions["session"]),
        past=before,
        vix=vix.sort("available_at"),
        instrument=instrument,
        profile=profile or ProfileConfig(),
        pair=pair,
        **price,
    )


def _row_of(session: pl.Series, sessions: pl.Series) -> Ints:
    starts = session_starts(session)
    days, known = session.gather(starts[:-1]).to_physical().to_numpy(), sessions.to_physical().to_numpy()
    row = np.searchsorted(known, days)
    if not np.array_equal(known[np.minimum(row, known.size - 1)] if known.size else known, days):
        raise ArtifactError("sessions", "a row for every session of the bars", "sessions without a row")
    return np.repeat(row, np.diff(starts)).astype(np.int64)


def _refuse_mismatch(bars: pl.DataFrame, sessions: pl.DataFrame, developing: pl.DataFrame) -> None:
    if not bars["ts"].is_sorted() or (bars["contract"] != bars["contract"][:1]).any():
        raise ArtifactError(
            "bars", "the bars of one contract, sorted by time", "several contracts or rows out of order"
        )
    if not developing.select("ts", "contract").equals(bars.select("ts", "contract")):
        raise ArtifactError("developing levels", "one row for each bar, in order", "other rows")
    codes = sessions["contract"].unique().to_list()
    if codes != bars["contract"][:1].to_list() or not sessions["session"].is_sorted():
        raise ArtifactError("sessions", "the sessions of the bars' contract, in order", f"contracts {codes}")
