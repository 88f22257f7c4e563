"""Tables of instruments and calendars: the built-in TOML files, changed by the user's file.

``VPOC_INSTRUMENTS`` names the user's file. Each entry is a new instrument or changes single keys of a built-in one.
Its table ``calendars`` holds calendars in the form of ``overrides.toml``.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from datetime import date, time
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vpoc_ml import environment
from vpoc_ml.errors import InvalidValueError, MissingInputError, UnreadableFileError

INSTRUMENTS_VARIABLE = environment.INSTRUMENTS
MAX_BYTES = 1024**2
"""Largest size of the user's file; a hundred instruments take a tenth of it."""
MAX_NESTING = 16
_NESTING_LIMIT = f"at most {MAX_NESTING} tables and arrays within each other"
MONTH_CODES = "FGHJKMNQUVXZ"
Ordered = TypeVar("Ordered", float, str)
RollRule = Literal["volume", "open_interest", "calendar"]
ROLL_RULES: tuple[str, ...] = get_args(RollRule)


# ---------------------------------------------------------------- entries


def _month_letters(value: list[str]) -> list[str]:
    order = [MONTH_CODES.find(month) if len(month) == 1 else -1 for month in value]
    if not value or -1 in order or order != sorted(set(order)):
        raise ValueError("expected month letters in order")
    return value


def _ascending(value: list[Ordered]) -> list[Ordered]:
    if value[0] >= value[1]:
        raise ValueError("expected the lower value first")
    return value


def _time_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("expected an IANA time zone")
    return value


def _clock(value: str) -> str:
    time.fromisoformat(value)  # raises ValueError
    return value


Months = Annotated[list[str], AfterValidator(_month_letters)]
Clock = Annotated[str, AfterValidator(_clock)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Entry(BaseModel):
    """A table of a TOML file. The description of a key is the expectation in an error message."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ThirdFriday(Entry):
    """Expiry on the third Friday of the delivery month."""

    rule: Literal["third_friday"]


class BusinessDaysBefore(Entry):
    """Expiry some business days before a day of an earlier month."""

    rule: Literal["business_days_before"]
    days: Count
    day: Count
    months_before: Count


class LastBusinessDay(Entry):
    """Expiry on the nth last business day of the delivery month."""

    rule: Literal["last_business_day"]
    nth: Count


_RULES = "third_friday, business_days_before (days, day, months_before), last_business_day (nth)"
_LETTERS = f"month letters out of {MONTH_CODES}, in order"


class InstrumentEntry(Entry):
    """One instrument. ``Instrument`` documents the meaning of the keys."""

    tick: Positive = Field(description="a number above 0")
    point_value: Positive = Field(description="dollars a point, above 0")
    calendar: str = Field(description="the name of a calendar")
    months: Months = Field(description=_LETTERS)
    last_trade: Clock = Field(description='a time such as "08:30"')
    expiry: ThirdFriday | BusinessDaysBefore | LastBusinessDay = Field(
        discriminator="rule", description=f"a table with a rule and its whole numbers: {_RULES}"
    )
    cost_per_side: NotNegative = Field(description="dollars a contract, at least 0")
    cycle: Months | None = Field(None, description=_LETTERS)
    roll_rule: RollRule = Field("volume", description=f"one of {', '.join(ROLL_RULES)}")
    roll_days: Count = Field(4, description="a whole number of weekdays")
    slippage_ticks: NotNegative = Field(1.0, description="ticks a side, at least 0")
    vix: bool = Field(True, description="true or false")
    price_range: Annotated[list[int | float], Field(min_length=2, max_length=2), AfterValidator(_ascending)] | None = (
        Field(None, description="the lowest and the highest possible price in points, such as [400, 30000]")
    )
    negative_prices: bool = Field(False, description="true or false")


class EarlyClose(Entry):
    """A session that closes early."""

    session: date
    close: Clock
    source: str = ""


class FormerClose(Entry):
    """The regular close until a date."""

    until: date
    close: Clock
    source: str = ""


class FormerHalt(Entry):
    """A daily halt until a date."""

    until: date
    start: Clock
    end: Clock
    source: str = ""


class CalendarEntry(Entry):
    """One calendar: RTH, the reviewed range of sessions, and corrections of the library's hours. Exchange time."""

    timezone: Annotated[str, AfterValidator(_time_zone)] = Field(description="an IANA time zone")
    rth: Annotated[list[Clock], Field(min_length=2, max_length=2), AfterValidator(_ascending)] = Field(
        description='two times of one day, the earlier first, such as ["08:30", "15:15"]'
    )
    first_session: date = Field(description="a date")
    last_session: date = Field(description="a date")
    closed: list[date] = Field(description="a list of dates")
    early_close: list[EarlyClose] = Field([], description="tables with session and close, and nothing else but source")
    regular_close: list[FormerClose] = Field([], description="tables with until and close, and nothing else but source")
    halt: list[FormerHalt] = Field([], description="tables with until, start and end, and nothing else but source")


class Specs(NamedTuple):
    """Every known instrument and calendar as in the files, validated."""

    instruments: dict[str, InstrumentEntry]
    calendars: dict[str, CalendarEntry]


# ---------------------------------------------------------------- files


def specs() -> Specs:
    """Return the current tables; the next call uses a changed file or variable.

    Raises:
        MissingInputError: the variable names no file.
        UnreadableFileError: the file is not TOML.
        InvalidValueError: an entry is incomplete or invalid; the error names file, entry and key.
    """
    named = environment.read(INSTRUMENTS_VARIABLE)
    if not named:
        return _loaded(None, 0)
    path = Path(named)
    if not path.is_file():
        raise MissingInputError(path, "the instruments file", f"Correct or unset {INSTRUMENTS_VARIABLE}.")
    return _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _loaded(user: Path | None, _changed: int) -> Specs:
    built_in = (files(__package__).joinpath(name) for name in ("instruments.toml", "overrides.toml"))
    instruments, calendars = (tomllib.loads(file.read_text(encoding="utf-8")) for file in built_in)
    if user is not None:
        own = _parsed(user)
        own_calendars = own.pop("calendars", {})
        if not isinstance(own_calendars, dict):
            raise _wrong(user, "calendars", own_calendars, "a table of calendars")
        if added := own_calendars.keys() - calendars.keys():
            _check_calendars_exist(user, added)
        calendars |= own_calendars
        for symbol, entry in own.items():
            instruments[symbol] = {**instruments.get(symbol, {}), **entry} if isinstance(entry, dict) else entry
    file = user or "overrides.toml"
    checked = {name: _validated(CalendarEntry, file, f"calendars.{name}", entry) for name, entry in calendars.items()}
    for name, calendar in checked.items():
        if calendar.first_session > calendar.last_session:
            key = f"calendars.{name}.last_session"
            raise _wrong(file, key, calendar.last_session, "a date from first_session on")
    file = user or "instruments.toml"
    entries = {symbol: _validated(InstrumentEntry, file, symbol, entry) for symbol, entry in instruments.items()}
    for symbol, instrument in entries.items():
        _check_instrument(file, symbol, instrument, checked)
    return Specs(entries, checked)


def _parsed(path: Path) -> dict[str, Any]:
    remedy = f"Correct the file or unset {INSTRUMENTS_VARIABLE}."
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UnreadableFileError(path, f"at most {MAX_BYTES:,} bytes", f"{size:,}", remedy=remedy)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise UnreadableFileError(path, _NESTING_LIMIT, "more", remedy=remedy) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadableFileError(path, "TOML", str(error), remedy=remedy) from error
    level: list[Any] = [table]
    for _ in range(MAX_NESTING):
        tables = [value.values() for value in level if isinstance(value, dict)]
        level = [each for value in (*tables, *(item for item in level if isinstance(item, list))) for each in value]
    if level:
        raise UnreadableFileError(path, _NESTING_LIMIT, "more", remedy=remedy)
    return table


_Kind = TypeVar("_Kind", bound=Entry)


def _validated(kind: type[_Kind], file: Path | str, name: str, entry: Any) -> _Kind:
    """Return an entry as its model; the error names file, entry and key."""
    if not isinstance(entry, dict):
        raise _wrong(file, name, entry, "a table")
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        if key in kind.model_fields:
            expected = str(kind.model_fields[key].description)
        else:
            expected = f"one of the keys {', '.join(kind.model_fields)}{_suggestion(key, kind.model_fields)}"
        raise _wrong(file, f"{name}.{key}", entry.get(key, "absent"), expected) from error


def _check_instrument(
    file: Path | str, symbol: str, entry: InstrumentEntry, calendars: dict[str, CalendarEntry]
) -> None:
    if not (symbol.isascii() and symbol.isalnum() and symbol.isupper() and len(symbol) <= 4):
        raise _wrong(file, "symbol", symbol, "one to four capitals and digits")
    if entry.calendar not in calendars:
        known = f"one of {', '.join(calendars)}{_suggestion(entry.calendar, calendars)}"
        raise _wrong(file, f"{symbol}.calendar", entry.calendar, known)
    if not set(entry.cycle or ()) <= set(entry.months):
        raise _wrong(file, f"{symbol}.cycle", entry.cycle, f"some of its months {', '.join(entry.months)}")


def _check_calendars_exist(file: Path, names: Iterable[str]) -> None:
    """Refuse a calendar that pandas_market_calendars, which holds its trading days, does not know."""
    import pandas_market_calendars as mcal

    known = mcal.get_calendar_names()
    for name in names:
        if name not in known:
            expected = f"the name of a calendar of pandas_market_calendars{_suggestion(name, known)}"
            raise _wrong(file, f"calendars.{name}", name, expected)


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a suggestion in brackets, or an empty text."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _wrong(file: Path | str, key: str, value: object, expected: str) -> InvalidValueError:
    return InvalidValueError(f"{key} in {file}", value, expected)
