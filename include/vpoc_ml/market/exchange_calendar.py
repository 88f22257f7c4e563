"""Sessions of an exchange: pandas_market_calendars with the corrections of ``overrides.toml``.

A session is a trade date. It opens at 17:00 Chicago the day before and closes at 16:00. The calendar's entry gives RTH
(08:30-15:00 for equity indices); it ends with the session if that closes earlier, and is null if that closes before.
"""

from __future__ import annotations

from datetime import date, datetime, time
from functools import cache

import pandas_market_calendars as mcal
import polars as pl

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instrument_files import CalendarEntry, specs
from vpoc_ml.market.instruments import Instrument

_COLUMNS = ("session", "open", "close", "rth_open", "rth_close", "minutes", "rth_minutes", "halt_start", "halt_end")


def sessions(calendar: str, start: date, end: date) -> pl.DataFrame:
    """Return the sessions of ``start``..``end``, both inclusive, one row per trade date.

    Columns: session Date; open, close, rth_open, rth_close, halt_start, halt_end Datetime[us, UTC], each interval
    [start, end); RTH and halt are null if there is none; minutes, rth_minutes i32, the minutes without the halt
    (no halt lies in RTH).

    Raises:
        InvalidValueError: no such calendar, or a date outside the years whose hours were reviewed.
    """
    first, last = reviewed_range(calendar)
    if start < first or end > last:
        raise InvalidValueError("sessions", f"{start}..{end}", f"within {first}..{last}, as reviewed for {calendar}")
    return _all_sessions(calendar, repr(_rules(calendar))).filter(pl.col("session").is_between(start, end))


def contract_sessions(contract: Contract, instrument: Instrument, start: date, end: date) -> pl.DataFrame:
    """Return ``sessions`` of a contract: the last one ends at ``instrument.last_trade`` of the expiry day.

    Raises:
        InvalidValueError: as ``sessions``.
    """
    table = sessions(instrument.calendar, start, min(end, max(start, contract.expiry)))
    zone = _rules(instrument.calendar).timezone
    stop = pl.lit(contract.expiry).dt.combine(time.fromisoformat(instrument.last_trade)).dt.replace_time_zone(zone)
    early = (pl.col("session") == contract.expiry) & (pl.col("close") > stop.dt.convert_time_zone("UTC"))
    cut = table.with_columns(
        close=pl.when(early).then(stop.dt.convert_time_zone("UTC")).otherwise(pl.col("close")).dt.cast_time_unit("us")
    )
    return _with_rth_and_minutes(cut.drop("rth_open", "rth_close", "minutes", "rth_minutes"), instrument.calendar)


def is_session(calendar: str, day: date) -> bool:
    """Return whether ``day`` is a trade date, half days included.

    Raises:
        InvalidValueError: as ``sessions``.
    """
    return sessions(calendar, day, day).height == 1


def reviewed_range(calendar: str) -> tuple[date, date]:
    """Return the first and last trade date whose hours were reviewed.

    Raises:
        InvalidValueError: no such calendar.
    """
    rules = _rules(calendar)
    return rules.first_session, rules.last_session


def reviewed_hours(calendar: str) -> tuple[datetime, datetime]:
    """Return the open of the first and the close of the last session whose hours were reviewed, UTC.

    Raises:
        InvalidValueError: no such calendar.
    """
    table = sessions(calendar, *reviewed_range(calendar))
    return table["open"][0], table["close"][-1]


def clip_to_reviewed(calendar: str, day: date) -> date:
    """Return ``day``, or the nearest reviewed date.

    Raises:
        InvalidValueError: no such calendar.
    """
    first, last = reviewed_range(calendar)
    return min(max(day, first), last)


@cache
def _all_sessions(calendar: str, _rules_text: str) -> pl.DataFrame:
    """Return every reviewed session. ``_rules_text`` is a cache key: a changed calendar entry has another text."""
    rules = _rules(calendar)
    try:
        schedule = mcal.get_calendar(calendar).schedule(rules.first_session, rules.last_session)
    except RuntimeError as error:
        raise InvalidValueError("calendar", calendar, "a name pandas_market_calendars knows") from error
    local = schedule["market_close"].dt.tz_convert(rules.timezone)
    table = pl.DataFrame({"session": schedule.index.date.tolist(), "close_time": local.dt.time.tolist()})
    table = table.filter(~pl.col("session").is_in(rules.closed))
    zone, day, close = rules.timezone, pl.col("session"), pl.col("close_time")
    # the corrections: former regular closes, early closes and halts
    for former in rules.regular_close:
        applies = (day <= former.until) & (close == time(16))
        table = table.with_columns(close_time=pl.when(applies).then(time.fromisoformat(former.close)).otherwise(close))
    for early in rules.early_close:
        table = table.with_columns(
            close_time=pl.when(day == early.session).then(time.fromisoformat(early.close)).otherwise(close)
        )
    table = table.with_columns(halt_start=pl.lit(None, pl.Time), halt_end=pl.lit(None, pl.Time))
    for halt in rules.halt:
        halted = (day <= halt.until) & (close > time.fromisoformat(halt.end))
        table = table.with_columns(
            halt_start=pl.when(halted).then(time.fromisoformat(halt.start)).otherwise("halt_start"),
            halt_end=pl.when(halted).then(time.fromisoformat(halt.end)).otherwise("halt_end"),
        )
    table = table.select(
        "session",
        open=_utc(day.dt.offset_by("-1d"), pl.lit(time(17)), zone),
        close=_utc(day, pl.col("close_time"), zone),
        halt_start=_utc(day, pl.col("halt_start"), zone),
        halt_end=_utc(day, pl.col("halt_end"), zone),
    )
    return _with_rth_and_minutes(table, calendar)


def _with_rth_and_minutes(table: pl.DataFrame, calendar: str) -> pl.DataFrame:
    """Return the table with the RTH interval and the counts of minutes; halts after the close become null."""
    rules = _rules(calendar)
    begin, finish = (time.fromisoformat(text) for text in rules.rth)
    day, close = pl.col("session"), pl.col("close")
    has_halt = pl.col("halt_end") <= close
    table = table.with_columns(
        rth_open=_utc(day, pl.lit(begin), rules.timezone),
        rth_close=pl.min_horizontal(_utc(day, pl.lit(finish), rules.timezone), close),
        halt_start=pl.when(has_halt).then("halt_start"),
        halt_end=pl.when(has_halt).then("halt_end"),
    )
    rth = pl.col("rth_close") > pl.col("rth_open")
    table = table.with_columns(rth_open=pl.when(rth).then("rth_open"), rth_close=pl.when(rth).then("rth_close"))
    halted = _minutes("halt_start", "halt_end").fill_null(0)
    return table.with_columns(
        minutes=_minutes("open", "close") - halted, rth_minutes=_minutes("rth_open", "rth_close").fill_null(0)
    ).select(_COLUMNS)


def _minutes(start: str, end: str) -> pl.Expr:
    return (pl.col(end) - pl.col(start)).dt.total_minutes().cast(pl.Int32)


def _utc(day: pl.Expr, clock: pl.Expr, zone: str) -> pl.Expr:
    return day.dt.combine(clock).dt.replace_time_zone(zone).dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def _rules(calendar: str) -> CalendarEntry:
    known = specs().calendars
    if calendar not in known:
        raise InvalidValueError("calendar", calendar, f"one of {', '.join(known)}")
    return known[calendar]
