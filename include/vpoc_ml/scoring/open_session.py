"""The open session of a contract in arrays that grow by one bar at a time, and the features of its last bar.

Every number is computed by the code of the batch: bars and levels are added by its kernels, features by its functions.
Nothing of the past is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.build import FUNCTIONS, optional_values
from vpoc_ml.features.clock import DAY_MINUTES, minutes_since_open
from vpoc_ml.features.history import BarColumns, Past, Predecessor
from vpoc_ml.features.inputs import NAKED_SESSIONS, NO_VALUES, BarHistory, Inputs
from vpoc_ml.features.non_positive_prices import reads_non_positive
from vpoc_ml.features.registry import known_features, selected_features
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints, TickBars, extend_levels
from vpoc_ml.profile.sessions import ABSENT, follow_naked
from vpoc_ml.profile.tick_bars import profile_rule

CONSTANT = ("har_d", "har_w", "har_m", "yz_20d", "vpoc_migr_5d", "dow", "days_to_roll", "gap_open", "vix_chg_5d")
"""Features with one value from one published VIX close to the next: they read complete sessions, the open, the date."""
KEPT = ("session_atr", "yang_zhang")
"""Cached properties of ``Inputs`` with one entry a session that read earlier sessions only."""
ARRAYS = tuple(each.name for each in fields(BarHistory) if each.name != "own_rows")
LEVELS = ("vpoc", "vah", "val")
MARGIN = 400
"""Empty rows that a growing profile gets beyond its range, in ticks."""
_NO_PRICE, _NO_COUNT = np.empty(0), np.empty(0, np.int64)
_NO_BARS = BarColumns(_NO_PRICE, _NO_PRICE, _NO_PRICE, _NO_COUNT, _NO_COUNT, _NO_COUNT, _NO_COUNT)
_ONE_BAR: Ints = np.array([0, 1], np.int64)


class Bar(NamedTuple):
    """One finished bar of a minute: START (UTC), prices in points, contracts traded."""

    ts: datetime
    open: float
    high: float
    low: float
    close: float
    volume: int


@dataclass(frozen=True)
class LiveMarket:
    """What is known of one contract before its first new bar.

    Attributes:
        contract: its code, such as ``ESH25``.
        instrument: the futures.
        bars: its canonical bars so far, sorted by ts; none where the contract begins with its first new bar.
        predecessor: the front contract before it, as ``build_features`` takes it.
        vix: ``date, close, available_at``, sorted; None for a model without the VIX.
        profile: how levels are built.
        extras: optional families of features.
        pair: the other instrument's closes, of family cointegration.
        covariates: further indices by column, each like ``vix``.
    """

    contract: str
    instrument: Instrument
    bars: pl.DataFrame
    predecessor: Predecessor | None = None
    vix: pl.DataFrame | None = None
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    extras: tuple[str, ...] = ()
    pair: pl.DataFrame | None = None
    covariates: Mapping[str, pl.DataFrame] = field(default_factory=dict)


class OpenSession:
    """Bars of ``session`` so far, behind the bars of ``past``."""

    def __init__(self, market: LiveMarket, past: Past, session: date) -> None:
        self.session, self.rows = session, list[tuple[Bar, bool]]()
        self._market, self._past = market, past
        before = BarHistory.join(past.bars, _NO_BARS)
        self._start = past.bars.close.size
        self._arrays = {name: _with_room(getattr(before, name)) for name in ARRAYS}
        self._open = np.empty(DAY_MINUTES)
        self._levels = {name: np.full(DAY_MINUTES, np.nan) for name in LEVELS}
        self._rth, self._vix = np.zeros(DAY_MINUTES, np.bool_), np.full(DAY_MINUTES, np.nan)
        self._profile, self._base, self._first, self._last = np.zeros(0, np.int64), 0, 0, -1
        self._volume = 0
        self._minute = 0
        self._days = pl.Series("session", [session])
        self._constants: dict[str, np.float32] = {}
        self._kept: dict[str, NDArray[Any]] = {}
        self._naked = _NakedLevels(before, past)
        self._known = 0
        self._published, self._closes = (np.empty(0, np.int64), np.empty(0))
        if market.vix is not None:
            self._published = market.vix["available_at"].to_physical().to_numpy()
            self._closes = market.vix["close"].to_numpy()

    def append(self, bar: Bar, *, rth: bool) -> None:
        """Add a bar, whose prices are on the tick grid and in order; ``rth``: it lies in regular hours."""
        at = len(self.rows)
        self.rows.append((bar, rth))
        opened, high, low, close = self._market.instrument.whole_ticks(bar[1:5])
        ts = int(np.datetime64(bar.ts.replace(tzinfo=None), "us").astype(np.int64))
        if at == 0:
            self._minute = int(minutes_since_open(np.array([ts]), np.array([0, 1]))[0]) - ts // 60_000_000
        whole = (np.array([each], np.int64) for each in (bar.volume, ts // 60_000_000 + self._minute, self._day, ts))
        own = BarColumns(*(np.array([each]) for each in (high, low, close)), *whole)
        row = self._start + at
        last = BarColumns._make(self._arrays[name][max(row - 1, 0) : row] for name in BarColumns._fields)
        added = BarHistory.join(last, own)
        for name in ARRAYS:
            self._arrays[name][row] = getattr(added, name)[-1]
        self._open[at] = opened
        tick_low, tick_high, tick_close = (each.astype(np.int64) for each in (own.low, own.high, own.close))
        self._follow_levels(at, TickBars(tick_low, tick_high, tick_close, own.volume, _ONE_BAR))
        self._naked.append(int(tick_low[0]), int(tick_high[0]), int(tick_close[0]))
        self._rth[at], known = rth, int(np.searchsorted(self._published, ts))
        self._vix[at] = self._closes[known - 1] if known else np.nan
        if known != self._known:
            self._known, self._constants = known, {}

    def last_features(self) -> dict[str, np.float32]:
        """Return the features of the last bar by name, in the order of the columns of ``build_features``."""
        inputs, extras = self.inputs(), self._market.extras
        selected = [name for name in selected_features((), vix=inputs.uses_vix) if name in FUNCTIONS]
        if not self._constants:
            self._constants = {name: np.float32(FUNCTIONS[name](inputs)[-1]) for name in CONSTANT if name in selected}
            self._kept = {name: getattr(inputs, name) for name in KEPT}
        found = {
            name: self._constants[name] if name in self._constants else np.float32(FUNCTIONS[name](inputs)[-1])
            for name in selected
        }
        found |= {name: np.float32(values[-1]) for name, values in optional_values(inputs, extras).items()}
        history = inputs.full_history
        if (history.low <= 0).any():
            known = known_features()
            for name in found:
                lookback = known[name].price_lookback if name in known else None
                if lookback is not None and reads_non_positive(history.low, history.day, lookback)[-1]:
                    found[name] = np.float32(np.nan)
        return found

    def inputs(self) -> Inputs:
        """Return the inputs of the session's bars so far. The arrays are views: the next bar does not change them."""
        count, market = len(self.rows), self._market
        history = BarHistory(
            **{name: values[: self._start + count] for name, values in self._arrays.items()}, own_rows=count
        )
        own = {name: values[self._start : self._start + count] for name, values in self._arrays.items()}
        levels = {name: values[:count] for name, values in self._levels.items()}
        today = {
            "open": self._open[0],
            "high": own["high"].max(),
            "low": own["low"].min(),
            "close": own["close"][-1],
            **{name: values[-1] for name, values in levels.items()},
        }
        columns = {"rth": self._rth[:count], "vix": self._vix[:count]}
        contract = pl.Series("contract", [market.contract]).new_from_index(0, count)
        inputs = Inputs(
            frame=pl.DataFrame([contract, *(pl.Series(name, values) for name, values in columns.items())]),
            open=self._open[:count],
            **{name: own[name] for name in ("high", "low", "close", "volume", "minute", "day", "ts")},
            levels=levels,
            daily={name: np.append(values, today[name]) for name, values in self._past.daily.items()},
            sessions=self._days,
            starts=np.array([0, count]),
            past_sessions=self._past.sessions,
            full_history=history,
            vix=NO_VALUES if market.vix is None else market.vix,
            instrument=market.instrument,
            profile=market.profile,
            pair=market.pair,
            uses_vix=market.vix is not None,
            covariates=market.covariates,
        )
        # only the last row of naked is read; the others are those of no bar
        vars(inputs).update(self._kept, naked=np.broadcast_to(self._naked.last, (count, self._naked.last.size)))
        return inputs

    @property
    def _day(self) -> int:
        """Row of the session among those of the past and itself."""
        return self._past.sessions

    def _follow_levels(self, at: int, bar: TickBars) -> None:
        """Add a bar to the profile and store the levels after it; NaN while nothing has traded."""
        low, high = int(bar.low[0]), int(bar.high[0])
        if self._last < 0 or low <= self._base or high >= self._base + self._profile.size - 1:
            self._grow_profile(low, high)
        found = extend_levels(
            bar, profile_rule(self._market.profile), self._base, self._profile, self._first, self._last
        )
        begun = self._last >= 0
        self._first = min(self._first, low - self._base) if begun else low - self._base
        self._last = max(self._last, high - self._base)
        self._volume += int(bar.volume[0])
        if self._volume > 0:
            for level, name in zip(found[0], LEVELS, strict=True):
                self._levels[name][at] = level

    def _grow_profile(self, low: int, high: int) -> None:
        """Give the profile room for a bar from ``low`` to ``high`` ticks."""
        held = self._profile[self._first : self._last + 1]
        bottom = self._base + self._first if held.size else low
        base = min(low, bottom) - MARGIN
        profile = np.zeros(max(high, bottom + held.size) + MARGIN - base, np.int64)
        profile[bottom - base : bottom - base + held.size] = held
        if held.size:
            self._first, self._last = bottom - base, bottom - base + held.size - 1
        self._profile, self._base = profile, base


class _NakedLevels:
    """The naked VPOCs of the past, followed bar by bar; ``last`` is the row of ``follow_naked`` at the last bar."""

    def __init__(self, history: BarHistory, past: Past) -> None:
        level = past.daily["vpoc"]
        self._levels = np.where(np.isnan(level), ABSENT, np.rint(np.nan_to_num(level))).astype(np.int64)
        whole = (np.rint(each).astype(np.int64) for each in (history.low, history.high, history.close))
        self._naked = follow_naked(*whole, history.starts, self._levels, NAKED_SESSIONS)[1]
        self._starts = np.zeros(past.sessions + 2, np.int64)
        self._starts[-1] = 1
        self.last = np.full(5, ABSENT, np.int64)

    def append(self, low: int, high: int, close: int) -> None:
        """Follow the levels that are still naked over one bar."""
        levels = np.full(self._levels.size + 1, ABSENT, np.int64)
        levels[self._naked] = self._levels[self._naked]
        bar = (np.array([each], np.int64) for each in (low, high, close))
        found, self._naked = follow_naked(*bar, self._starts, levels, NAKED_SESSIONS)
        self.last = found[0]


def _with_room(values: NDArray[Any]) -> NDArray[Any]:
    """Return an array that begins with ``values`` and has room for a session."""
    roomy = np.empty(values.size + DAY_MINUTES, values.dtype)
    roomy[: values.size] = values
    return roomy
