"""What every feature is computed from: arrays aligned to the bars, prices in ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.clock import minutes_since_open
from vpoc_ml.features.daily import mean_range_before, yang_zhang_before
from vpoc_ml.features.history import DAILY, NEEDED_BARS, Past, nothing
from vpoc_ml.features.minutes import Minutes, minutes_of
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.pointwise import SQUARE_BITS, fixed_point, fixed_squares
from vpoc_ml.features.series import change_over, lagged
from vpoc_ml.features.windows import above_vwap, rolling_sum
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints, TickBars
from vpoc_ml.profile.naked import ABSENT, follow_naked
from vpoc_ml.profile.tick_bars import SPREADS, require_matching_sessions, session_starts
from vpoc_ml.profile.volume_at_or_below import volume_at_or_below

Floats = NDArray[np.float64]

CHANGE_BITS, LOG_BITS = 14, 20
LARGEST_CHANGE = 2.0**12
"""Ticks a close changes at most where moments are taken, 1024 points of ES: products of 60 rows fit in int64."""
NO_VALUES = pl.DataFrame(schema={"date": pl.Date, "close": pl.Float64, "available_at": pl.Datetime("us", "UTC")})
"""The closes of an index that is not used."""
NAKED_SESSIONS = 20
"""Sessions after which a level is forgotten, naked or not."""


@dataclass(frozen=True)
class Inputs:
    """One contract and its past. Arrays have one entry a bar of the contract.

    Prices are whole ticks as float64, as those of the past are anyway. Arrays of ``daily`` and ``session_atr`` have one
    entry a session, in order, the past ones first; ``day`` is each bar's place among them. ``sessions`` are the trade
    dates of the bars, ``starts`` the first row of each, then the number of bars. ``pair`` is the other instrument's
    ``ts, close``, one continuous series, where one is asked for. ``vix`` is empty where ``uses_vix`` is False.
    ``covariates`` are further indices by column, each like ``vix``.
    """

    frame: pl.DataFrame
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    levels: dict[str, Floats]
    daily: dict[str, Floats]
    day: Ints
    sessions: pl.Series
    starts: Ints
    past: Past
    vix: pl.DataFrame
    instrument: Instrument
    profile: ProfileConfig
    pair: pl.DataFrame | None = None
    uses_vix: bool = True
    covariates: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def whole(self, name: str) -> NDArray[Any]:
        """Return a column of ``PastBars`` over all past sessions, then over the bars."""
        return _joined(getattr(self.past.bars, name), getattr(self, name))

    def recent(self, name: str) -> NDArray[Any]:
        """Return the past as far as the longest window of bars reaches, then the bars: what windows run over."""
        past = getattr(self.past.bars, name)
        return _joined(past[max(past.size - NEEDED_BARS, 0) :], getattr(self, name))

    def own(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entries that belong to the bars, of an array that begins with the past."""
        return values[values.size - self.close.size :]

    @cached_property
    def long_high(self) -> Floats:
        """Highs of the past, then the contract's own."""
        return self.recent("high")

    @cached_property
    def long_low(self) -> Floats:
        """Lows of the past, then the contract's own."""
        return self.recent("low")

    @cached_property
    def long_close(self) -> Floats:
        """Closes of the past, then the contract's own."""
        return self.recent("close")

    @cached_property
    def long_volume(self) -> Ints:
        """Volumes of the past, as traded, then the contract's own."""
        return self.recent("volume")

    def as_long(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return as much of an array over all past sessions and the bars as ``long_close`` holds."""
        return whole[whole.size - self.long_close.size :]

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
        change = change_over(self.long_close, 1)
        change[:1] = 0
        return change

    @cached_property
    def long_fixed_change(self) -> Ints:
        """``long_change``, at most 4096 ticks, in fixed point of ``CHANGE_BITS``."""
        change = np.clip(self.long_change, -LARGEST_CHANGE, LARGEST_CHANGE)
        return np.asarray(fixed_point(change, CHANGE_BITS), np.int64)

    @cached_property
    def long_flow(self) -> Ints:
        """Volume with the sign of its bar's ``long_change``."""
        return np.asarray(np.sign(self.long_change).astype(np.int64) * self.long_volume, np.int64)

    @cached_property
    def whole_log(self) -> Floats:
        """Logarithm of the closes of all past sessions, then of the bars: a log return, wrong by 4e-15, is a change."""
        return np.asarray(np.log(positive(self.whole("close"))), np.float64)

    @cached_property
    def whole_return(self) -> Floats:
        """Log return of the close over one bar, of all past sessions, then of the bars; 0 in the very first."""
        change = change_over(self.whole_log, 1)
        change[:1] = 0
        return change

    @cached_property
    def whole_squares(self) -> Ints:
        """Squares of ``whole_return`` in fixed point."""
        return fixed_squares(self.whole_return)

    @cached_property
    def long_log(self) -> Floats:
        """As much of ``whole_log`` as windows of bars read."""
        return self.as_long(self.whole_log)

    @cached_property
    def long_return(self) -> Floats:
        """As much of ``whole_return`` as windows of bars read."""
        return self.as_long(self.whole_return)

    @cached_property
    def long_squares(self) -> Ints:
        """As much of ``whole_squares`` as windows of bars read."""
        return self.as_long(self.whole_squares)

    @cached_property
    def square_sum_30(self) -> Floats:
        """Sum of the last 30 ``long_squares``."""
        return np.asarray(rolling_sum(self.long_squares, 30), np.float64)

    @cached_property
    def square_sum_390(self) -> Floats:
        """Sum of the last 390 ``long_squares``."""
        return np.asarray(rolling_sum(self.long_squares, 390), np.float64)

    @cached_property
    def variance(self) -> Floats:
        """Sum of squared percent returns of each session of ``daily``, from bar to bar and first from its open."""
        first = self.whole_starts[:-1]
        from_open = fixed_squares(self.whole_log[first] - np.log(positive(self.daily["open"])))
        total = np.add.reduceat(self.whole_squares, first) - self.whole_squares[first] + from_open
        return np.asarray(1e4 * total / 2.0**SQUARE_BITS, np.float64)

    @cached_property
    def whole_log_volume(self) -> Ints:
        """Logarithm of 1 + V of all past sessions, then of the bars, in fixed point of ``LOG_BITS``."""
        return np.asarray(fixed_point(np.log(1.0 + self.whole("volume")), LOG_BITS), np.int64)

    @cached_property
    def long_starts(self) -> Ints:
        """Like ``starts``, as rows of the arrays that windows run over."""
        return self.starts + (self.long_close.size - self.close.size)

    @cached_property
    def whole_starts(self) -> Ints:
        """First row of each session of ``daily``, as rows of all past sessions and the bars, then their number."""
        return np.searchsorted(self.whole("day"), np.arange(self.daily["close"].size + 1)).astype(np.int64)

    @cached_property
    def above_vwap(self) -> Floats:
        """How far the close lies above the session's VWAP so far: as a share, and in deviations of at least a tick.

        Shape (2, bars). A bar's price is (H + L + C) / 3: in thirds of a tick the sums are whole.
        """
        thirds = (self.high + self.low + self.close).astype(np.int64)
        return np.asarray(above_vwap(thirds, self.close, self.volume, self.starts, 3.0), np.float64)

    @cached_property
    def minutes(self) -> Minutes:
        """The places of all bars, past ones first, by session of ``daily`` and minute."""
        return minutes_of(self.whole("minute"), self.whole_starts)

    @cached_property
    def minute(self) -> Ints:
        """Minutes from the open of the session to the start of the bar."""
        return minutes_since_open(self.ts, self.starts)

    @cached_property
    def ts(self) -> Ints:
        """Start of each bar, microseconds UTC."""
        return np.asarray(self.frame["ts"].to_physical().to_numpy(), np.int64)

    @cached_property
    def session_atr(self) -> Floats:
        """Mean true range of the 14 sessions before each session, in ticks, at least 1; NaN before the 15th."""
        return mean_range_before(self.daily)

    @cached_property
    def atr(self) -> Floats:
        """``session_atr`` at every bar."""
        return self.of_session(self.session_atr)

    @cached_property
    def yang_zhang(self) -> Floats:
        """Volatility of the 20 sessions before each session, percent a year."""
        return yang_zhang_before(self.daily)

    @cached_property
    def vix_close(self) -> Floats:
        """Last VIX close published strictly before each bar, in points; NaN where there is none."""
        return np.asarray(self.frame["vix"].cast(float).to_numpy(), np.float64)

    @cached_property
    def standing(self) -> Ints:
        """Units at the developing VPOC, at or below the close, and all of the session so far: three a bar."""
        bars, vpoc = self.ticks_since(self.past.sessions), self.levels["vpoc"]
        # no row holds volume before the first trade, the close's included
        row = np.where(np.isnan(vpoc), self.close, vpoc).astype(np.int64)
        return volume_at_or_below(bars, SPREADS[self.profile.spread], row)

    @cached_property
    def naked(self) -> Ints:
        """Per bar the number of naked VPOCs of 20 sessions, the nearest above and below the close, ``ABSENT`` if none.

        Prices before the roll are rounded to whole ticks after their adjustment.
        """
        bars = self.ticks_since(0)
        level = self.daily["vpoc"]
        vpoc = np.where(np.isnan(level), ABSENT, np.rint(np.nan_to_num(level))).astype(np.int64)
        found = follow_naked(bars.low, bars.high, bars.close, bars.starts, vpoc, NAKED_SESSIONS)[0]
        return np.asarray(found[bars.low.size - self.close.size :])

    def ticks_since(self, session: int) -> TickBars:
        """Return the bars from a row of ``daily`` on, those of the past rounded to whole ticks."""
        first = self.whole_starts[session]
        low, high, close, volume = (
            np.rint(self.whole(name)[first:]).astype(np.int64) for name in ("low", "high", "close", "volume")
        )
        return TickBars(low, high, close, volume, self.whole_starts[session:] - first)

    def of_session(self, values: NDArray[np.generic], ago: int = 0) -> Floats:
        """Return, for every bar, a session's value ``ago`` sessions before the bar's; NaN where there is none."""
        return self.at_bars(lagged(values, ago)[self.day[self.starts[:-1]]])

    def at_bars(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return, for every bar, the value of its session, given one for each session of the bars."""
        return np.repeat(values, np.diff(self.starts))


def gather(
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    developing: pl.DataFrame,
    vix: pl.DataFrame | None,
    instrument: Instrument,
    past: Past | None = None,
    profile: ProfileConfig | None = None,
    pair: pl.DataFrame | None = None,
    covariates: Mapping[str, pl.DataFrame] | None = None,
) -> Inputs:
    """Return the arrays of one contract, after its past.

    Raises:
        ArtifactError: the bars hold several contracts or are out of order, or developing levels or
            sessions are not those of the bars.
    """
    _refuse_mismatch(bars, sessions, developing)

    def ticks(frame: pl.DataFrame, *names: str) -> dict[str, Floats]:
        return {name: instrument.level_ticks(frame[name]) for name in names}

    price, own, before = ticks(bars, "open", "high", "low", "close"), ticks(sessions, *DAILY), past or nothing()
    starts = session_starts(bars["session"])
    days = bars["session"].gather(starts[:-1])
    require_matching_sessions(days, sessions["session"])
    row = before.sessions + np.arange(days.len())
    return Inputs(
        frame=bars,
        volume=bars["volume"].to_numpy().astype(np.int64),
        levels=ticks(developing, "vpoc", "vah", "val"),
        daily={name: np.concatenate((before.daily[name], own[name])) for name in DAILY},
        day=np.repeat(row, np.diff(starts)),
        sessions=days,
        starts=starts,
        past=before,
        vix=NO_VALUES if vix is None else vix.sort("available_at"),
        uses_vix=vix is not None,
        covariates={name: values.sort("available_at") for name, values in (covariates or {}).items()},
        instrument=instrument,
        profile=profile or ProfileConfig(),
        pair=pair,
        **price,
    )


def _joined(past: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
    """Return both in a row, without a copy where there is no past: nobody writes into what comes of it."""
    return np.concatenate((past, own)) if past.size else own


def _refuse_mismatch(bars: pl.DataFrame, sessions: pl.DataFrame, developing: pl.DataFrame) -> None:
    if not bars["ts"].is_sorted() or (bars["contract"] != bars["contract"][:1]).any():
        raise ArtifactError(
            "bars", "the bars of one contract, sorted by time", "several contracts or rows out of order"
        )
    if not developing["ts"].equals(bars["ts"]) or (developing["contract"] != bars["contract"][:1]).any():
        raise ArtifactError("developing levels", "one row for each bar, in order", "other rows")
    codes = sessions["contract"].unique().to_list()
    if codes != bars["contract"][:1].to_list() or not sessions["session"].is_sorted():
        raise ArtifactError("sessions", "the sessions of the bars' contract, in order", f"contracts {codes}")
