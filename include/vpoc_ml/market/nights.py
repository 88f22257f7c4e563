"""Nights of a run, and whether a night is past. Heavy imports are inside functions: DAG files import this module."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from vpoc_ml.errors import InvalidValueError

CHICAGO = ZoneInfo("America/Chicago")
CLOSE_OF_DAY = time(17, 30)
"""Time at which a session's files are complete, America/Chicago: 90 minutes after its close."""
LONGEST_BREAK = timedelta(days=14)
"""Longer than any period without a session."""


def night_of_session(session: date) -> datetime:
    """Return when the night of a session begins, UTC: 17:30 Chicago of its date, whatever its close."""
    return datetime.combine(session, CLOSE_OF_DAY, CHICAGO).astimezone(UTC)


def past_night(calendar: str, session: date, now: datetime) -> datetime | None:
    """Return the as-of time of a run for ``session``'s night, UTC; None while that night is live.

    The time is 17:30 Chicago of the session's date, whatever its close. The night is live until the next session has
    closed: from Friday 17:30 until Monday's close, or the close of the next session if Monday is a holiday.

    Args:
        calendar: calendar of the instrument.
        session: exchange trade date.
        now: start of the run, timezone-aware.

    Raises:
        InvalidValueError: ``session`` is no trade date, its hours were not reviewed, or it is before 17:30.
    """
    from vpoc_ml.market.exchange_calendar import reviewed_range, sessions

    last = min(session + LONGEST_BREAK, reviewed_range(calendar)[1])
    table = sessions(calendar, session, max(session, last))
    if session not in table["session"]:
        raise InvalidValueError("session", session.isoformat(), f"a day on which {calendar} has a session")
    night = night_of_session(session)
    if now < night:
        expected = f"a session that is over at {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC; its night begins {night}"
        raise InvalidValueError("session", session.isoformat(), expected)
    later = table.filter(table["session"] > session)["close"]
    return night if (later <= now).any() else None
