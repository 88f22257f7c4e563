"""Instruments: tick, point value, calendar, delivery months, expiry, rolls and costs.

A new instrument is an entry in ``instruments.toml`` or in the user's file (see ``instrument_files``).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.instrument_files import specs

FRIDAY = 4
_FIRST, _LAST = date(1969, 1, 1), date(2070, 12, 31)


@dataclass(frozen=True)
class ExpiryRule:
    """The last trading day of a delivery month, by ``rule``.

    ``third_friday``: the third Friday of the delivery month. ``business_days_before``: ``days`` business days before
    day ``day`` of the month ``months_before`` months earlier; if that day is no business day, before the last business
    day before it. ``last_business_day``: the ``nth`` last business day of the delivery month.
    """

    rule: str = "third_friday"
    days: int = 0
    day: int = 0
    months_before: int = 0
    nth: int = 0

    def of(self, year: int, month: int) -> date:
        """Return the last trading day of a delivery month."""
        return _expiry(self, year, month)


THIRD_FRIDAY = ExpiryRule()


def weekdays_before(day: date, count: int) -> date:
    """Return the weekday ``count`` weekdays before ``day``; holidays count as weekdays."""
    found: date = np.busday_offset(np.datetime64(day, "D"), -count, roll="backward").astype(object)
    return found


@cache
def _expiry(rule: ExpiryRule, year: int, month: int) -> date:
    first = date(year, month, 1)
    if rule.rule == "third_friday":
        return first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 14)
    if rule.rule == "business_days_before":
        earlier = 12 * year + month - 1 - rule.months_before
        return _business_day(date(earlier // 12, earlier % 12 + 1, rule.day), -rule.days)
    after = 12 * year + month
    return _business_day(date(after // 12, after % 12 + 1, 1) - timedelta(days=1), 1 - rule.nth)


def _business_day(day: date, offset: int) -> date:
    """Return the business day ``offset`` business days after the last one on or before ``day``."""
    found: date = np.busday_offset(np.datetime64(day, "D"), offset, roll="backward", holidays=_holidays()).astype(
        object
    )
    return found


@cache
def _holidays() -> NDArray[np.datetime64]:
    """Return the regular holidays of New York; the exchange's rule books exclude them from business days.

    On most of them Globex trades for half a day. Unscheduled closures (a storm, a funeral) are not included: they do
    not move the expiry of a listed contract.
    """
    import pandas_market_calendars as mcal

    rules = mcal.get_calendar("NYSE").regular_holidays
    return np.asarray(rules.holidays(str(_FIRST), str(_LAST)).values, dtype="datetime64[D]")


if TYPE_CHECKING:
    import polars as pl  # only a type: the DAG files and the timetable import this module

TICK_TOLERANCE = 1e-6  # of a tick; the rounding error of decimal text as a double is a thousand times smaller


@dataclass(frozen=True)
class Instrument:
    """One futures product. Prices are in points; ``point_value`` is dollars a point.

    Attributes:
        symbol: root symbol, such as ``ES``.
        tick_size: in points.
        point_value: dollars a point.
        calendar: name of the exchange calendar.
        months: letters of the listed delivery months.
        last_trade: exchange time at which an expiring contract stops trading on its expiry day.
        expiry: rule of the last trading day.
        roll_rule: default of ``data.roll_rule``.
        roll_days: weekdays from the scheduled roll to the expiry.
        cycle: letters of the delivery months that a scheduled roll goes to.
        cost_per_side: commission and fees, dollars a contract.
        slippage_ticks: loss of a market order, ticks a side.
        vix: whether bars and features have the VIX, unless ``data.vix`` is set.
        price_range: lowest and highest price in points that gate ``bars`` accepts; None: any.
        negative_prices: whether prices at or below 0 are valid; if not, ingestion quarantines such rows.
    """

    symbol: str
    tick_size: float
    point_value: float
    calendar: str
    months: tuple[str, ...]
    last_trade: str = "08:30"
    expiry: ExpiryRule = THIRD_FRIDAY
    roll_rule: str = "volume"
    roll_days: int = 4
    cycle: tuple[str, ...] = ()
    cost_per_side: float = 0.0
    slippage_ticks: float = 1.0
    vix: bool = True
    price_range: tuple[float, float] | None = None
    negative_prices: bool = False

    @property
    def is_equity_index(self) -> bool:
        """Whether it is an index of American shares, whose volatility the VIX measures."""
        return self.calendar == "CME Globex Equity"

    @property
    def round_turn_cost(self) -> float:
        """Dollars a contract that is bought and sold at market."""
        return 2 * (self.cost_per_side + self.slippage_ticks * self.tick_value)

    @property
    def digest(self) -> str:
        """16 hex digits over all fields; artifacts of an instrument depend on it."""
        return _digest(self)

    @property
    def tick_value(self) -> float:
        """Dollars a tick."""
        return self.tick_size * self.point_value

    def to_ticks(self, prices: ArrayLike) -> NDArray[np.int64]:
        """Return prices in points as whole ticks, rounded to the nearest.

        Raises:
            InvalidValueError: a price is NaN or infinite.
        """
        return self.whole_ticks(prices).astype(np.int64)

    def whole_ticks(self, prices: ArrayLike) -> NDArray[np.float64]:
        """Return ``to_ticks`` as float64, for arithmetic with fractions.

        Raises:
            InvalidValueError: as ``to_ticks``.
        """
        ticks = np.asarray(prices, dtype=np.float64) / self.tick_size
        if not np.isfinite(ticks).all():
            raise InvalidValueError("prices", "NaN or infinite", "finite numbers")
        return np.asarray(np.rint(ticks, out=ticks), np.float64)

    def level_ticks(self, levels: pl.Series) -> NDArray[np.float64]:
        """Return levels in points as ``whole_ticks`` does, NaN where a level is null because nothing had traded.

        Raises:
            InvalidValueError: a level is NaN or infinite.
        """
        ticks = self.whole_ticks(levels.fill_null(0.0).to_numpy())
        return np.where(levels.is_null().to_numpy(), np.nan, ticks) if levels.null_count() else ticks


@lru_cache
def _digest(entry: Instrument) -> str:
    return hashlib.sha256(json.dumps(asdict(entry), sort_keys=True).encode()).hexdigest()[:16]


def instrument(symbol: str) -> Instrument:
    """Return the instrument of a root symbol such as ``ES``.

    Raises:
        InvalidValueError: no such entry, or an invalid entry.
        InputError: the user's file of instruments is missing or unreadable.
    """
    table = specs().instruments
    if symbol not in table:
        raise InvalidValueError("data.instrument", symbol, f"one of {', '.join(table)}")
    entry = table[symbol]
    return Instrument(
        symbol=symbol,
        tick_size=float(entry.tick),
        point_value=float(entry.point_value),
        calendar=entry.calendar,
        months=tuple(entry.months),
        last_trade=entry.last_trade,
        expiry=ExpiryRule(**entry.expiry.model_dump()),
        roll_rule=entry.roll_rule,
        roll_days=entry.roll_days,
        cycle=tuple(entry.cycle or entry.months),
        cost_per_side=float(entry.cost_per_side),
        slippage_ticks=float(entry.slippage_ticks),
        vix=entry.vix,
        price_range=(entry.price_range[0], entry.price_range[1]) if entry.price_range else None,
        negative_prices=entry.negative_prices,
    )


def symbols() -> tuple[str, ...]:
    """Return every known root symbol."""
    return tuple(specs().instruments)
