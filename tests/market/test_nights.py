"""Which nights are past, and what moment they are limited to."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.nights import past_night

CALENDAR = "CME Globex Equity"
FRIDAY = date(2025, 3, 14)
SHORT_FRIDAY, THANKSGIVING_MONDAY = date(2024, 11, 29), date(2024, 12, 2)


@pytest.mark.parametrize(
    ("session", "night"),
    [
        (date(2025, 3, 7), datetime(2025, 3, 7, 23, 30, tzinfo=UTC)),  # winter time
        (date(2025, 3, 10), datetime(2025, 3, 10, 22, 30, tzinfo=UTC)),  # summer time
        (date(2024, 11, 1), datetime(2024, 11, 1, 22, 30, tzinfo=UTC)),
        (date(2024, 11, 4), datetime(2024, 11, 4, 23, 30, tzinfo=UTC)),
        (SHORT_FRIDAY, datetime(2024, 11, 29, 23, 30, tzinfo=UTC)),  # closes at noon
    ],
)
def test_a_past_night_is_half_past_five_in_chicago(session: date, night: datetime) -> None:
    assert past_night(CALENDAR, session, datetime(2026, 3, 1, tzinfo=UTC)) == night


@pytest.mark.parametrize(
    ("session", "next_close"),
    [
        (FRIDAY, datetime(2025, 3, 17, 21, tzinfo=UTC)),  # Monday 16:00 Chicago
        (date(2025, 3, 7), datetime(2025, 3, 10, 21, tzinfo=UTC)),  # the clocks change in between
        (date(2025, 5, 23), datetime(2025, 5, 26, 17, tzinfo=UTC)),  # Memorial Day closes at noon
        (date(2024, 12, 24), datetime(2024, 12, 26, 22, tzinfo=UTC)),  # no session on Christmas Day
    ],
)
def test_a_night_is_live_until_the_next_session_has_closed(session: date, next_close: datetime) -> None:
    assert past_night(CALENDAR, session, next_close - timedelta(seconds=1)) is None
    assert past_night(CALENDAR, session, next_close) is not None


def test_the_night_of_a_session_begins_at_half_past_five() -> None:
    begin = datetime(2025, 3, 14, 22, 30, tzinfo=UTC)
    assert past_night(CALENDAR, FRIDAY, begin) is None
    with pytest.raises(InvalidValueError, match="a session that is over"):
        past_night(CALENDAR, FRIDAY, begin - timedelta(seconds=1))


@pytest.mark.parametrize("day", [date(2025, 3, 15), date(2024, 12, 25), date(1990, 1, 2)])
def test_a_day_without_a_session_is_refused(day: date) -> None:
    with pytest.raises(InvalidValueError):
        past_night(CALENDAR, day, datetime(2026, 3, 1, tzinfo=UTC))
