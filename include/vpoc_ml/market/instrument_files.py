"""Tables of instruments and calendars: the built-in TOML files, changed by the user's file.

``VPOC_INSTRUMENTS`` names the user's file. Each entry is a new instrument or changes single keys of a built-in one.
Its table ``calendars`` holds calendars in the form of ``overrides.toml``.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import available_timezones

from vpoc_ml import environment
from vpoc_ml.errors import InvalidValueError, MissingInputError, UnreadableFileError

INSTRUMENTS_VARIABLE = environment.INSTRUMENTS
MAX_BYTES = 1024**2
"""Largest size of the user's file; a hundred instruments take a tenth of it."""
MAX_NESTING = 16
_NESTING_LIMIT = f"at most {MAX_NESTING} tables and arrays within each other"
MONTH_CODES = "FGHJKMNQUVXZ"
ROLL_RULES = ("volume", "open_interest", "calendar")
EXPIRY_RULES = {
    "third_friday": (),
    "business_days_before": ("days", "day", "months_before"),
    "last_business_day": ("nth",),
}

Table = dict[str, Any]


class Specs(NamedTuple):
    """Every known instrument and calendar as in the files, validated."""

    instruments: dict[str, Table]
    calendars: dict[str, Table]


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
            if not isinstance(entry, dict):
                raise _wrong(user, symbol, entry, "a table such as [ZN]")
            instruments[symbol] = {**instruments.get(symbol, {}), **entry}
    for name, rules in calendars.items():
        _validate_calendar(user or "overrides.toml", name, rules)
    for symbol, entry in instruments.items():
        _validate_instrument(user or "instruments.toml", symbol, entry, calendars)
    return Specs(instruments, calendars)


def _parsed(path: Path) -> Table:
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


# ---------------------------------------------------------------- validation


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def _not_negative(value: Any) -> bool:
    return value == 0 or _positive(value)


def _months(value: Any) -> bool:
    listed = isinstance(value, list) and bool(value) and all(isinstance(month, str) for month in value)
    order = [MONTH_CODES.find(month) for month in value] if listed else [-1]
    return -1 not in order and order == sorted(set(order))


def _clock(value: Any) -> bool:
    try:
        return isinstance(value, str) and time.fromisoformat(value) is not None
    except ValueError:
        return False


def _expiry(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("rule") not in tuple(EXPIRY_RULES):
        return False
    needed = EXPIRY_RULES[value["rule"]]
    return set(value) == {"rule", *needed} and all(isinstance(value[key], int) and value[key] >= 0 for key in needed)


def _price_range(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)
    return numbers and value[0] < value[1]


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "tick": (_positive, "a number above 0"),
    "point_value": (_positive, "dollars a point, above 0"),
    "calendar": (lambda value: isinstance(value, str), "the name of a calendar"),
    "months": (_months, f"month letters out of {MONTH_CODES}, in order"),
    "cycle": (_months, f"month letters out of {MONTH_CODES}, in order"),
    "last_trade": (_clock, 'a time such as "08:30"'),
    "expiry": (_expiry, "a table with a rule out of " + ", ".join(EXPIRY_RULES) + " and the whole numbers it needs"),
    "roll_rule": (lambda value: value in ROLL_RULES, f"one of {', '.join(ROLL_RULES)}"),
    "roll_days": (lambda value: isinstance(value, int) and value >= 0, "a whole number of weekdays"),
    "cost_per_side": (_not_negative, "dollars a contract, at least 0"),
    "vix": (lambda value: isinstance(value, bool), "true or false"),
    "price_range": (_price_range, "the lowest and the highest possible price in points, such as [400, 30000]"),
    "negative_prices": (lambda value: isinstance(value, bool), "true or false"),
    "slippage_ticks": (_not_negative, "ticks a side, at least 0"),
}
_NEEDED = ("tick", "point_value", "calendar", "months", "last_trade", "expiry", "cost_per_side")


def _validate_instrument(file: Path | str, symbol: str, entry: Table, calendars: Table) -> None:
    if not (symbol.isascii() and symbol.isalnum() and symbol.isupper() and len(symbol) <= 4):
        raise _wrong(file, "symbol", symbol, "one to four capitals and digits")
    for key in _NEEDED:
        if key not in entry:
            raise _wrong(file, f"{symbol}.{key}", "absent", _KEYS[key][1])
    for key, value in entry.items():
        if key not in _KEYS:
            raise _wrong(file, f"{symbol}.{key}", value, f"one of the keys {', '.join(_KEYS)}{_nearest(key, _KEYS)}")
        fits, expected = _KEYS[key]
        if not fits(value):
            raise _wrong(file, f"{symbol}.{key}", value, expected)
    if entry["calendar"] not in calendars:
        known = f"one of {', '.join(calendars)}{_nearest(entry['calendar'], calendars)}"
        raise _wrong(file, f"{symbol}.calendar", entry["calendar"], known)
    if not set(entry.get("cycle", ())) <= set(entry["months"]):
        raise _wrong(file, f"{symbol}.cycle", entry["cycle"], f"some of its months {', '.join(entry['months'])}")


_CALENDAR_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "timezone": (lambda value: isinstance(value, str) and value in available_timezones(), "an IANA time zone"),
    "rth": (lambda value: isinstance(value, list) and len(value) == 2 and all(map(_clock, value)), "two times"),
    "first_session": (lambda value: type(value) is date, "a date"),
    "last_session": (lambda value: type(value) is date, "a date"),
    "closed": (lambda value: isinstance(value, list) and all(type(day) is date for day in value), "a list of dates"),
}
_CHANGES: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "early_close": {"session": lambda value: type(value) is date, "close": _clock},
    "regular_close": {"until": lambda value: type(value) is date, "close": _clock},
    "halt": {"until": lambda value: type(value) is date, "start": _clock, "end": _clock},
}
"""Lists of tables that change the library's hours: the keys of each table, apart from ``source``."""


def _validate_calendar(file: Path | str, name: str, rules: Any) -> None:
    if not isinstance(rules, dict):
        raise _wrong(file, f"calendars.{name}", rules, "a table")
    for key, (fits, expected) in _CALENDAR_KEYS.items():
        if not fits(rules.get(key)):
            raise _wrong(file, f"calendars.{name}.{key}", rules.get(key, "absent"), expected)
    if rules["first_session"] > rules["last_session"]:
        raise _wrong(file, f"calendars.{name}.last_session", rules["last_session"], "a date from first_session on")
    keys = (*_CALENDAR_KEYS, *_CHANGES)
    for key in rules.keys() - set(keys):
        expected = f"one of the keys {', '.join(keys)}{_nearest(key, keys)}"
        raise _wrong(file, f"calendars.{name}.{key}", rules[key], expected)
    for key, wanted in _CHANGES.items():
        changes = rules.get(key, [])
        if not isinstance(changes, list) or not all(_is_change(each, wanted) for each in changes):
            expected = f"tables with {' and '.join(wanted)}, dates and times, and nothing else but source"
            raise _wrong(file, f"calendars.{name}.{key}", changes, expected)


def _is_change(value: Any, wanted: Mapping[str, Callable[[Any], bool]]) -> bool:
    known = isinstance(value, dict) and set(wanted) <= set(value) <= {*wanted, "source"}
    return known and all(fits(value[key]) for key, fits in wanted.items())


def _check_calendars_exist(file: Path, names: Iterable[str]) -> None:
    """Refuse a calendar that pandas_market_calendars, which holds its trading days, does not know."""
    import pandas_market_calendars as mcal

    known = mcal.get_calendar_names()
    for name in names:
        if name not in known:
            expected = f"the name of a calendar of pandas_market_calendars{_nearest(name, known)}"
            raise _wrong(file, f"calendars.{name}", name, expected)


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the nearest known name in brackets, or an empty text."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _wrong(file: Path | str, key: str, value: Any, expected: str) -> InvalidValueError:
    return InvalidValueError(f"{key} in {file}", value, expected)
