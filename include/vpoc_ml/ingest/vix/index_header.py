"""Find the columns of a text that hold an index's dates and closes, and the index by its publisher's name for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.ingest.parsing.text_layout import unquoted
from vpoc_ml.ingest.readers.generic import SEPARATORS

VIX = "VIX"
_ALIASES = {
    VIX: ("VIXCLS", "VIXCURRENT", "VIXARCHIVE"),
    "VIX1D": (),
    "VIX9D": ("VXST",),
    "VIX3M": ("VXV", "VXVCLS"),
    "VIX6M": ("VXMT",),
    "VIX1Y": (),
    "VVIX": (),
    "VXN": ("VXNCLS",),
    "VXD": ("VXDCLS",),
    "VXO": ("VXOCLS",),
    "RVX": ("RVXCLS",),
    "OVX": ("OVXCLS",),
    "GVZ": ("GVZCLS",),
    "EVZ": ("EVZCLS",),
    "VXEEM": ("VXEEMCLS",),
    "VSTOXX": ("V2TX",),
    "SKEW": (),
    "MOVE": (),
    "SPX": ("GSPC", "SP500", "INX"),
    "NDX": ("NASDAQ100",),
    "RUT": (),
    "DJI": ("DJIA",),
    "VIXY": (),
    "VXX": (),
    "UVXY": (),
    "SVXY": (),
}
_SYMBOLS = {name: symbol for symbol, others in _ALIASES.items() for name in (symbol, *others)}
_TITLE = re.compile(r"(?i)\bcboe volatility index\b")


def symbol_of(text: str, *more: str) -> str | None:
    """Return the index that a vendor's symbol names (``^VIX``, ``CBOE:VIX``, ``VIX.US``), or None.

    ``more`` are further names of indices, in capitals.
    """
    name = text.strip().upper().rpartition(":")[2].lstrip("^$.").split(".")[0]
    return _SYMBOLS.get(name, name if name in more else None)


def symbols_in(name: str, *more: str) -> set[str]:
    """Return the indices in a file name: VIX for ``CBOE_DLY_VIX, 1D.csv``."""
    found = {symbol_of(token, *more) for token in re.split(r"[^A-Za-z0-9]+", name)}
    found |= {VIX} if _TITLE.search(name) else set()
    return {symbol for symbol in found if symbol is not None}


_SEARCHED = 10
_DATES = ("observation_date", "date", "trade date", "datetime", "timestamp", "time")
_CLOSES = ("close", "close/last", "last", "latest", "price", "px_last", "adj close")
_VOLUMES = ("volume", "vol", "up", "down", "totalvolume")
_TICKERS = ("ticker", "symbol")
_ROLES = ("date", "time", "open", "high", "low", "close")
_OPTIONS = ("format", "separator", "decimal")


class IndexHeader(NamedTuple):
    """Columns of an index's file by position.

    Attributes:
        lines: lines up to the first row of values.
        columns: position of the roles date, time, open, high, low and close, if there is such a column.
        volumes: positions of columns that hold traded volume.
        ticker: position of a column that names the index of each row.
        width: number of columns.
        symbol: the index that the header names, if any.
        tradingview: the columns are those of a TradingView export, which ends without a line break.
        mapped: the columns are those of ``ingest.vix_mapping``.
        format: format of the dates, if ``ingest.vix_mapping`` has it.
        decimal_comma: numbers have a decimal comma, by ``ingest.vix_mapping``.
    """

    lines: int
    separator: str
    columns: dict[str, int]
    volumes: tuple[int, ...]
    ticker: int | None
    width: int
    symbol: str | None
    tradingview: bool = False
    mapped: bool = False
    format: str | None = None
    decimal_comma: bool = False


def find_header(lines: Sequence[str], wanted: str, config: IngestConfig) -> IndexHeader | None:
    """Return the header among the first lines; None for a text without one.

    The columns of ``ingest.vix_mapping`` have priority over the names that publishers use, which may take one header
    line or, from yfinance, several. If there are several indices side by side, the ``wanted`` one is returned.

    Raises:
        InvalidValueError: ``ingest.vix_mapping`` is incomplete.
    """
    mapping = parse_vix_mapping(config)
    for number, line in enumerate(lines[:_SEARCHED]):
        if mapping and (header := _mapped(number, line, mapping)):
            return header
    for number, line in enumerate(lines[:_SEARCHED]):
        for separator in SEPARATORS.values():
            following = [split(each, separator) for each in lines[number : number + 3]]
            if separator in line and (header := _known(number, following, separator, wanted)):
                return header
    return None


def parse_vix_mapping(config: IngestConfig) -> dict[str, str]:
    """Return ``ingest.vix_mapping`` by role.

    Raises:
        InvalidValueError: an entry is no ``role=column``, or date or close is missing.
    """
    found = {}
    for entry in config.vix_mapping:
        role, equals, column = (part.strip() for part in entry.partition("="))
        if not equals or role not in (*_ROLES, *_OPTIONS):
            expected = f"role=column with a role out of {', '.join(_ROLES)}, or an option out of {', '.join(_OPTIONS)}"
            raise InvalidValueError("ingest.vix_mapping", entry, expected)
        found[role] = column
    if found and not {"date", "close"} <= set(found):
        raise InvalidValueError("ingest.vix_mapping", ", ".join(config.vix_mapping), "a column for date and for close")
    for option, values in (("separator", SEPARATORS), ("decimal", ("point", "comma"))):
        if found.get(option, "") not in ("", *values):
            raise InvalidValueError("ingest.vix_mapping", found[option], f"{option}= one of {', '.join(values)}")
    return found


def split(line: str, separator: str) -> list[str]:
    """Return the fields of a line without quotes and spaces around them; an empty list if it is not CSV."""
    return [field.strip() for field in unquoted(line, separator)]


def _mapped(number: int, line: str, mapping: Mapping[str, str]) -> IndexHeader | None:
    separator = SEPARATORS[mapping.get("separator", "comma")]
    names = split(line, separator)
    columns = {role: names.index(mapping[role]) for role in _ROLES if mapping.get(role) in names}
    if not {role for role in _ROLES if role in mapping} <= set(columns):
        return None
    return IndexHeader(
        number + 1,
        separator,
        columns,
        _volumes(names),
        None,
        len(names),
        None,
        mapped=True,
        format=mapping.get("format"),
        decimal_comma=mapping.get("decimal") == "comma",
    )


def _known(number: int, rows: list[list[str]], separator: str, wanted: str) -> IndexHeader | None:
    """Return the header that begins with the first of these rows."""
    fields, tickers, lines = _flattened(rows)
    names = [_name(field) for field in fields]
    columns = _columns(names, tickers, wanted)
    if columns is None:
        return None
    close = columns["close"]
    ticker = next((names.index(name) for name in _TICKERS if name in names), None)
    return IndexHeader(
        number + lines,
        separator,
        columns,
        _volumes(fields),
        ticker,
        len(names),
        symbol_of(tickers[close], wanted) or _index_in(names[close], wanted),
        tradingview=names[:5] == ["time", "open", "high", "low", "close"],
    )


def _flattened(rows: list[list[str]]) -> tuple[list[str], list[str], int]:
    """Return names, the index of each column as text, and the number of header lines.

    yfinance writes the names, the tickers (or first the tickers) and the name of the index column in one line each; the
    last line may be missing.
    """
    first, second, third = (*rows, [], [])[:3]
    label = {"price": 0, "ticker": 1, "": 0}.get(first[0].lower() if first else "none")
    if label is None or len(second) != len(first) or second[0].lower() not in ("price", "ticker", ""):
        return first, [""] * len(first), 1
    names, tickers = (first, second) if label == 0 else (second, first)
    if not any(symbol_of(ticker) for ticker in tickers[1:]) and any(symbol_of(name) for name in names[1:]):
        names, tickers = tickers, names
    named = bool(third) and bool(third[0]) and not any(third[1:])
    return [third[0] if named else "date", *names[1:]], tickers, 3 if named else 2


def _volumes(fields: list[str]) -> tuple[int, ...]:
    return tuple(at for at, field in enumerate(fields) if _name(field) in _VOLUMES)


def _name(field: str) -> str:
    return re.sub(r"\s+", " ", field.strip('<>"* ').rstrip(".").lower())


def _columns(names: list[str], tickers: list[str], wanted: str) -> dict[str, int] | None:
    """Return the positions by role; None without a date or without exactly one close."""
    dates = [name for name in _DATES if name in names]
    day = names.index(dates[0]) if dates else 0
    if not names or (not dates and names[0] != ""):  # pandas leaves the name of the index empty
        return None
    close = _close(names, tickers, wanted)
    if close is None:
        return None
    columns = {"date": day, "close": close}
    if dates and dates[0] != "time" and "time" in names:
        columns["time"] = names.index("time")
    prefix = names[close].removesuffix("close") if names[close] not in _CLOSES else ""
    same = [at for at, ticker in enumerate(tickers) if ticker == tickers[close]]
    others = {prefix + role: role for role in ("open", "high", "low")}
    return columns | {others[names[at]]: at for at in same if names[at] in others}


def _close(names: list[str], tickers: list[str], wanted: str) -> int | None:
    """Return the column of the close; None if there is none, or if several are possible."""
    plain = [at for at, name in enumerate(names) if name in _CLOSES]
    indices = [at for at, name in enumerate(names) if at and _index_in(name, wanted)]
    if any(tickers):
        plain = [at for at in plain if symbol_of(tickers[at], wanted) == wanted] or plain
    else:
        indices = [at for at in indices if _index_in(names[at], wanted) == wanted] or indices
    if plain and not indices:
        return min(plain, key=lambda at: _CLOSES.index(names[at]))
    return indices[0] if len(indices) == 1 and not plain else None


def _index_in(name: str, wanted: str) -> str | None:
    """Return the index in a column's name, alone or before ``close``: ``vixcls``, ``^vix``, ``vix close``."""
    return symbol_of(re.sub(r"[ _]close$", "", name), wanted)
