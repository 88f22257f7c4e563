"""Which night a run is of, and whether that night is past. Heavy imports only inside functions: DAG files import it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from vpoc_ml.errors import InvalidValueError

CHICAGO = ZoneInfo("America/Chicago")
CLOSE_OF_DAY = time(17, 30)
"""When a session's files are complete, America/Chicago: 90 minutes after its close."""
LONGEST_BREAK = timedelta(days=14)
"""Longer than any time without a session."""


def past_night(calendar: str, session: date, now: datetime) -> datetime | None:
    """Return the moment that a run of ``session``'s night is limited to, UTC; None when that night is live.

    The moment is 17:30 Chicago of the session's date, whatever its close. The night is live as long as no later
    session has closed at ``now``: from Friday 17:30 until Monday's close, or the close of the next session where
    Monday is a holiday.

    Args:
        calendar: of the instrument.
        session: exchange trade date.
        now: clock of the run, timezone-aware.

    Raises:
        InvalidValueError: ``session`` is no trade date, its hours were not reviewed, or it is not 17:30 yet.
    """
    from vpoc_ml.market.exchange_calendar import reviewed_range, sessions

    last = min(session + LONGEST_BREAK, reviewed_range(calendar)[1])
    table = sessions(calendar, session, max(session, last))
    if session not in table["session"]:
        raise InvalidValueError("session", session.isoformat(), f"a day on which {calendar} has a session")
    night = datetime.combine(session, CLOSE_OF_DAY, CHICAGO).astimezone(UTC)
    if now < night:
        expected = f"a session whose day is over at {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC; its night begins {night}"
        raise InvalidValueError("session", session.isoformat(), expected)
    later = table.filter(table["session"] > session)["close"]
    return night if (later <= now).any() else None
