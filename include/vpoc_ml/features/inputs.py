"""What every feature is computed from: the contract's own bars, their sessions and the bars of the past.

``Inputs`` holds the own bars and one entry per session. ``BarHistory`` holds the own bars behind bars of the past; the
windows over bars read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.clock import MinuteGrid, minutes_since_open
from vpoc_ml.features.history import DAILY, NEEDED_BARS, BarColumns, Floats, Ints, Past, empty_past
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.series import (
    SQUARE_BITS,
    above_vwap,
    change_over,
    fixed_point,
    fixed_squares,
    lagged,
    rolling_sum,
    sums_before,
)
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import TickBars, volume_at_or_below
from vpoc_ml.profile.sessions import ABSENT, follow_naked
from vpoc_ml.profile.tick_bars import SPREADS, require_matching_sessions, session_starts

CHANGE_BITS, LOG_BITS = 14, 20
"""Fixed point of a change of the close in ticks, and of a logarithm of volume."""
LARGEST_CHANGE = 2.0**12
"""Largest change of the close in ticks in a moment (1024 points of ES): products of 60 rows fit in int64."""


@dataclass(frozen=True)
class BarHistory:
    """Bars of the past, then the contract's own bars: one entry per bar, oldest first.

    Prices are in ticks; those of a predecessor are ratio-adjusted and not whole. Volumes are as traded. The last
    ``own_rows`` entries are the contract's own bars, and ``own`` selects them. ``day`` is the row of the bar's session
    in ``Inputs.daily``, ``minute`` the minutes since the session's open, ``ts`` the start in microseconds UTC.
    ``log_return`` is 0 in the first bar of the full history. ``squares`` and ``log_volume`` (of 1 + V) are in fixed
    point of ``SQUARE_BITS`` and ``LOG_BITS``. No array may be written to.
    """

    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    minute: Ints
    day: Ints
    ts: Ints
    log_close: Floats
    log_return: Floats
    squares: Ints
    log_volume: Ints
    own_rows: int

    @classmethod
    def join(cls, past: BarColumns, own: BarColumns) -> BarHistory:
        """Return the full history: all bars of the past, then the contract's own."""
        pairs = zip(past, own, strict=True)
        bars = BarColumns._make(np.concatenate(each) if each[0].size else each[1] for each in pairs)
        log_close = np.asarray(np.log(positive(bars.close)), np.float64)
        log_return = change_over(log_close, 1)
        log_return[:1] = 0
        log_volume = np.asarray(fixed_point(np.log(1.0 + bars.volume), LOG_BITS), np.int64)
        return cls(*bars, log_close, log_return, fixed_squares(log_return), log_volume, own.close.size)

    def pad(self, bars: int) -> BarHistory:
        """Return the contract's own bars behind at most ``bars`` bars of the past; the arrays are views."""
        first = max(self.close.size - self.own_rows - bars, 0)
        columns = (field.name for field in fields(self) if field.name != "own_rows")
        return replace(self, **{name: getattr(self, name)[first:] for name in columns})

    def own(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entries of the contract's own bars, of an array over this history."""
        return values[len(values) - self.own_rows :]

    def own_after(self, values: Floats, bars: int) -> Floats:
        """Return ``own(values)``, with NaN where a bar has fewer than ``bars`` bars before it.

        The NaN are written into ``values``.
        """
        values[:bars] = np.nan
        return self.own(values)

    @cached_property
    def starts(self) -> Ints:
        """First row of each session, then the number of rows."""
        changes = np.flatnonzero(self.day[1:] != self.day[:-1]) + 1
        return np.concatenate(([0], changes, [self.day.size])).astype(np.int64)

    @cached_property
    def own_starts(self) -> Ints:
        """First row of each session of the contract's own bars, then the number of rows."""
        past = self.close.size - self.own_rows
        return self.starts[self.starts >= past]

    @cached_property
    def change(self) -> Floats:
        """Change of the close over one bar in ticks; 0 in the first bar."""
        change = change_over(self.close, 1)
        change[:1] = 0
        return change

    @cached_property
    def fixed_change(self) -> Ints:
        """``change``, at most 4096 ticks, in fixed point of ``CHANGE_BITS``."""
        change = np.clip(self.change, -LARGEST_CHANGE, LARGEST_CHANGE)
        return np.asarray(fixed_point(change, CHANGE_BITS), np.int64)

    @cached_property
    def flow(self) -> Ints:
        """Volume with the sign of ``change``."""
        return np.asarray(np.sign(self.change).astype(np.int64) * self.volume, np.int64)

    @cached_property
    def square_sum_30(self) -> Floats:
        """Sum of the last 30 ``squares``."""
        return np.asarray(rolling_sum(self.squares, 30), np.float64)

    @cached_property
    def square_sum_390(self) -> Floats:
        """Sum of the last 390 ``squares``."""
        return np.asarray(rolling_sum(self.squares, 390), np.float64)


ATR_SESSIONS = 14
YANG_ZHANG_SESSIONS = 20
DAYS_A_YEAR = 252
LEAST_YEARLY = 0.1
"""Smallest volatility, percent per year."""


NO_VALUES = pl.DataFrame(schema={"date": pl.Date, "close": pl.Float64, "available_at": pl.Datetime("us", "UTC")})
"""The closes of an index that is not used."""
NAKED_SESSIONS = 20
"""Sessions after which a level is dropped, naked or not."""


@dataclass(frozen=True)
class Inputs:
    """One contract's own bars: arrays have one entry per bar of ``frame``, unless stated otherwise.

    Prices are whole ticks as float64. Three other kinds of arrays exist, each with a named conversion:

    * ``daily``, ``session_atr``, ``yang_zhang`` and ``variance`` have one entry per session, oldest first: the
      ``past_sessions`` of the past, then the contract's own. ``day`` is each bar's row among them. ``of_session``
      converts them to bars.
    * ``sessions``, the trade dates of the contract's own sessions; ``starts`` has the first row of each, then the
      number of bars. ``at_bars`` converts one value per own session to bars.
    * ``full_history`` and ``padded`` are bars with their past. Their method ``own`` selects the contract's own bars.

    ``pair`` is the other instrument's ``ts, close``, one continuous series, for family cointegration. ``vix`` is empty
    where ``uses_vix`` is False. ``covariates`` are further indices by column, each like ``vix``.
    """

    frame: pl.DataFrame
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    minute: Ints
    day: Ints
    ts: Ints
    levels: dict[str, Floats]
    daily: dict[str, Floats]
    sessions: pl.Series
    starts: Ints
    past_sessions: int
    full_history: BarHistory
    vix: pl.DataFrame
    instrument: Instrument
    profile: ProfileConfig
    pair: pl.DataFrame | None = None
    uses_vix: bool = True
    covariates: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @cached_property
    def padded(self) -> BarHistory:
        """The bars behind as many bars of the past as the longest window of bars reads."""
        return self.full_history.pad(NEEDED_BARS)

    def of_session(self, values: NDArray[np.generic], ago: int = 0) -> Floats:
        """Return, for every bar, the value of the session ``ago`` sessions before its own; NaN where there is none.

        Args:
            values: one entry per session, like ``daily``.
            ago: number of sessions.
        """
        return self.at_bars(lagged(values, ago)[self.day[self.starts[:-1]]])

    def at_bars(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return, for every bar, the value of its session, given one entry per own session."""
        return np.repeat(values, np.diff(self.starts))

    def close_ago(self, bars: int) -> Floats:
        """Return the close ``bars`` bars earlier, NaN where there was none."""
        return self.padded.own(lagged(self.padded.close, bars))

    def ticks_since(self, session: int) -> TickBars:
        """Return the bars from a row of ``daily`` on; prices of the past are rounded to whole ticks."""
        history, first = self.full_history, self.full_history.starts[session]
        low, high, close, volume = (
            np.rint(values[first:]).astype(np.int64)
            for values in (history.low, history.high, history.close, history.volume)
        )
        return TickBars(low, high, close, volume, history.starts[session:] - first)

    @cached_property
    def minute_grid(self) -> MinuteGrid:
        """The grid of the full history, by session of ``daily`` and minute."""
        return MinuteGrid.of_bars(self.full_history.minute, self.full_history.starts)

    @cached_property
    def vix_close(self) -> Floats:
        """Last VIX close published strictly before each bar, in points; NaN where there is none."""
        return np.asarray(self.frame["vix"].cast(float).to_numpy(), np.float64)

    @cached_property
    def session_atr(self) -> Floats:
        """Mean true range of the 14 sessions before each session, in ticks, at least 1; NaN before the 15th."""
        high, low, close = self.daily["high"], self.daily["low"], self.daily["close"]
        before = np.concatenate((close[:1], close[:-1]))  # the first session has only its own range
        true_range = np.maximum(high, before) - np.minimum(low, before)
        return np.asarray(np.maximum(sums_before(true_range, ATR_SESSIONS) / ATR_SESSIONS, 1.0), np.float64)

    @cached_property
    def atr(self) -> Floats:
        """``session_atr`` at every bar."""
        return self.of_session(self.session_atr)

    @cached_property
    def yang_zhang(self) -> Floats:
        """Yang-Zhang volatility of the 20 sessions before each, percent per year, at least 0.1; NaN before the 22nd.

        The docstring of feature ``yz_20d`` states the formula.
        """
        n, variances = YANG_ZHANG_SESSIONS, []
        opened, high, low, close = (np.log(positive(self.daily[name])) for name in ("open", "high", "low", "close"))
        for values in (opened - lagged(close, 1), close - opened):
            mean = sums_before(values, n) / n
            deviations = np.zeros(values.size)
            for ago in range(1, n + 1):
                deviations += (lagged(values, ago) - mean) ** 2
            variances.append(deviations / (n - 1))
        overnight, session = variances
        inside = (high - opened) * (high - close) + (low - opened) * (low - close)
        k = 0.34 / (1.34 + (n + 1) / (n - 1))
        variance = overnight + k * session + (1 - k) * sums_before(inside, n) / n
        return np.asarray(np.maximum(100 * np.sqrt(DAYS_A_YEAR * variance), LEAST_YEARLY), np.float64)

    @cached_property
    def variance(self) -> Floats:
        """Sum of squared percent returns of each session, from its open to the first close, then from bar to bar."""
        history, first = self.full_history, self.full_history.starts[:-1]
        from_open = fixed_squares(history.log_close[first] - np.log(positive(self.daily["open"])))
        total = np.add.reduceat(history.squares, first) - history.squares[first] + from_open
        return np.asarray(1e4 * total / 2.0**SQUARE_BITS, np.float64)

    @cached_property
    def above_vwap(self) -> Floats:
        """Distance of the close above the session's VWAP so far: as a share, and in deviations of at least one tick.

        Shape (2, bars). The price of a bar is (H + L + C) / 3. In thirds of a tick the sums are integers.
        """
        thirds = (self.high + self.low + self.close).astype(np.int64)
        return np.asarray(above_vwap(thirds, self.close, self.volume, self.starts, 3.0), np.float64)

    @cached_property
    def profile_volumes(self) -> Ints:
        """Units at the developing VPOC, at or below the close, and all units of the session so far; shape (bars, 3)."""
        bars, vpoc = self.ticks_since(self.past_sessions), self.levels["vpoc"]
        # before the first trade no row holds volume, so the row of the close serves as well as any
        row = np.where(np.isnan(vpoc), self.close, vpoc).astype(np.int64)
        return volume_at_or_below(bars, SPREADS[self.profile.spread], row)

    @cached_property
    def naked(self) -> Ints:
        """Number of naked VPOCs of 20 sessions, the nearest above and below the close; ``ABSENT`` if none.

        Prices before the roll are rounded to whole ticks after their adjustment.
        """
        bars, level = self.ticks_since(0), self.daily["vpoc"]
        vpoc = np.where(np.isnan(level), ABSENT, np.rint(np.nan_to_num(level))).astype(np.int64)
        found = follow_naked(bars.low, bars.high, bars.close, bars.starts, vpoc, NAKED_SESSIONS)[0]
        return np.asarray(self.full_history.own(found))


def build_inputs(
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
    """Return the inputs of one contract's bars, at least one, after its past.

    Args as ``build_features``; ``past`` is what lies before the first bar, None for nothing.

    Raises:
        ArtifactError: the bars hold several contracts or are out of order, or developing levels or sessions are not
            those of the bars.
    """
    contract = bars["contract"][:1]
    if not bars["ts"].is_sorted() or (bars["contract"] != contract).any():
        raise ArtifactError(
            "bars", "the bars of one contract, sorted by time", "several contracts or rows out of order"
        )
    if not developing["ts"].equals(bars["ts"]) or (developing["contract"] != contract).any():
        raise ArtifactError("developing levels", "one row for each bar, in order", "other rows")
    codes = sessions["contract"].unique().to_list()
    if codes != contract.to_list() or not sessions["session"].is_sorted():
        raise ArtifactError("sessions", "the sessions of the bars' contract, in order", f"contracts {codes}")

    def ticks(frame: pl.DataFrame, *names: str) -> dict[str, Floats]:
        return {name: instrument.level_ticks(frame[name]) for name in names}

    price, own, past = ticks(bars, "open", "high", "low", "close"), ticks(sessions, *DAILY), past or empty_past()
    volume = bars["volume"].to_numpy().astype(np.int64)
    starts = session_starts(bars["session"])
    days = bars["session"].gather(starts[:-1])
    require_matching_sessions(days, sessions["session"])
    day = np.repeat(past.sessions + np.arange(days.len()), np.diff(starts))
    ts = np.asarray(bars["ts"].to_physical().to_numpy(), np.int64)
    minute = minutes_since_open(ts, starts)
    columns = BarColumns(price["high"], price["low"], price["close"], volume, minute, day, ts)
    return Inputs(
        frame=bars,
        volume=volume,
        minute=minute,
        day=day,
        ts=ts,
        levels=ticks(developing, "vpoc", "vah", "val"),
        daily={name: np.concatenate((past.daily[name], own[name])) for name in DAILY},
        sessions=days,
        starts=starts,
        past_sessions=past.sessions,
        full_history=BarHistory.join(past.bars, columns),
        vix=NO_VALUES if vix is None else vix.sort("available_at"),
        uses_vix=vix is not None,
        covariates={name: values.sort("available_at") for name, values in (covariates or {}).items()},
        instrument=instrument,
        profile=profile or ProfileConfig(),
        pair=pair,
        **price,
    )
