"""The last trading day of a delivery month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

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
