"""The layout of a delimited text: its columns by the names in a header line, and its lines as typed rows."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV, PRICES
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.timestamps import TimestampFormat, describe_unreadable

_QUOTED_THOUSANDS = r'"([+-]?\d+),([\d,.]+)"'
_QUOTED_DECIMALS, _DECIMAL = r'"([+-]?[\d.]*),(\d*)"', "\x1f"


@dataclass(frozen=True)
class Layout:
    """The layout of a text's lines.

    Attributes:
        separator: between fields.
        fields: role of each field in order: timestamp (or date and time), open, high, low, close (or price, of a
            trade), volume, symbol. A field with an empty role is not read. Several volume fields are added.
        timestamp: notation of the timestamp, or of date and time joined by a space.
        note: sentence about the conversion, for the run's report.
        header: number of lines before the rows.
        footer: lines that match this pattern are not rows.
        quoted: fields may be in quotes, with thousands separators.
        divisor: prices are divided by it.
        numbered: symbols are instrument numbers, which name no contract; the file may hold only one.
        decimal_comma: numbers are written 4.000,50.
        final_newline_optional: complete files may lack the last line break.
    """

    separator: str
    fields: tuple[str, ...]
    timestamp: TimestampFormat
    note: str
    header: int = 0
    footer: str | None = None
    quoted: bool = False
    divisor: float = 1.0
    numbered: bool = False
    decimal_comma: bool = False
    final_newline_optional: bool = False

    @property
    def trades(self) -> bool:
        """Whether a line is a trade, not a bar."""
        return "price" in self.fields


def parse_lines(lines: pl.Series, layout: Layout) -> pl.DataFrame:
    """Return ts (START, UTC), open, high, low, close, volume, text, and symbol if there is one: one row per line.

    A malformed line has null in every column but text: too few or too many fields, a price that is no finite number,
    a volume that is no whole number, a timestamp that does not parse, or a bar's timestamp between whole minutes.
    """
    split = lines.alias("text").to_frame().select("text", _split(layout)).unnest("parts")
    complete = pl.col(f"field_{len(layout.fields)}").is_null().alias("complete")
    typed = split.select("text", complete, *_typed(layout))
    # a timestamp far outside any data (a year of 30000 as nanoseconds) would break calendar arithmetic
    checks = [pl.col("ts").dt.year().is_between(1980, 2100), pl.col("volume").is_not_null()]
    checks += [pl.col(name).is_finite() for name in PRICES]
    if not layout.trades:
        checks.append(pl.col("ts").dt.truncate("1m") == pl.col("ts"))
    checks.append(pl.col("complete"))
    valid = pl.all_horizontal(*checks).fill_null(value=False)
    columns = ["ts", *OHLCV, *(["symbol"] if "symbol" in layout.fields else [])]
    return typed.select(pl.when(valid).then(pl.col(columns)), "text")


def explain_malformed(line: str, layout: Layout) -> tuple[str, str, str]:
    """Return what a malformed line was expected to hold, what it holds, and the remedy."""
    split = pl.Series("text", [line]).to_frame().select(_split(layout)).unnest("parts")
    count = len(layout.fields)
    written = [text.strip(" ") for text in split.row(0) if text is not None]
    if len(written) != count:
        found = f"{len(written)} fields" if len(written) < count else "more"
        remedy = "Check the separator and, of numbers such as 4000,50, decimal=comma in ingest.mapping."
        return f"{count} fields separated by {layout.separator!r}", f"{found} in {line[:80]!r}", remedy
    typed = split.select(_typed(layout))
    if (ts := typed["ts"][0]) is None:
        fields = dict(zip(layout.fields, written, strict=True))
        text = fields.get("timestamp") or f"{fields.get('date')} {fields.get('time')}"
        expected = f"a timestamp as {' or '.join(dict.fromkeys(layout.timestamp.formats))}"
        return expected, repr(text[:40]), describe_unreadable(text, layout.timestamp.zone)
    for role, text in zip(layout.fields, written, strict=True):
        if role not in (*PRICES, "price", "volume"):
            continue
        kind = _whole_number if role == "volume" else _number
        value = pl.Series("text", [text]).to_frame().select(kind(pl.col("text"), layout)).item()
        if value is None or not math.isfinite(value):
            comma = "," in text and not layout.decimal_comma
            remedy = "Add decimal=comma to ingest.mapping." if comma else "Correct the file or the columns."
            return f"a {'whole ' if role == 'volume' else ''}number as {role}", repr(text[:40]), remedy
    return "timestamps on whole minutes, of the years 1980 to 2100", str(ts), "Export one-minute bars."


def _split(layout: Layout) -> pl.Expr:
    text = pl.col("text")
    if layout.quoted and layout.decimal_comma:
        text = text.str.replace_all(_QUOTED_DECIMALS, f"${{1}}{_DECIMAL}${{2}}")
    elif layout.quoted:
        for _ in range(4):
            text = text.str.replace_all(_QUOTED_THOUSANDS, '"$1$2"')
    if layout.quoted:
        text = text.str.replace_all('"', "", literal=True)
    return text.str.splitn(layout.separator, len(layout.fields) + 1).alias("parts")


def _typed(layout: Layout) -> list[pl.Expr]:
    """Return ts, prices, volume and symbol of the split fields."""

    def role(name: str) -> list[pl.Expr]:
        return [pl.col(f"field_{n}").str.strip_chars(" ") for n, each in enumerate(layout.fields) if each == name]

    timestamp = role("timestamp")
    text = timestamp[0] if timestamp else pl.concat_str(role("date")[0], role("time")[0], separator=" ")
    prices = {name: (role(name) or role("price"))[0] for name in PRICES}
    volumes = [_whole_number(value, layout) for value in role("volume")]
    typed = [
        layout.timestamp.to_utc(text).alias("ts"),
        *(_number(value, layout).alias(name) for name, value in prices.items()),
        (volumes[0] if len(volumes) == 1 else pl.sum_horizontal(*volumes, ignore_nulls=False)).alias("volume"),
    ]
    return [*typed, *(symbol.alias("symbol") for symbol in role("symbol")[:1])]


def _number(text: pl.Expr, layout: Layout) -> pl.Expr:
    number = _with_decimal_point(text, layout).cast(pl.Float64, strict=False)
    return number / layout.divisor if layout.divisor != 1 else number


def _whole_number(text: pl.Expr, layout: Layout) -> pl.Expr:
    """Return whole numbers as integers, also those written with a zero fraction."""
    text = _with_decimal_point(text, layout)
    number = text.cast(pl.Float64, strict=False)
    return pl.coalesce(
        text.cast(pl.Int64, strict=False),
        pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False),
    )


def _with_decimal_point(text: pl.Expr, layout: Layout) -> pl.Expr:
    if not layout.decimal_comma:
        return text
    return text.str.replace_all(".", "", literal=True).str.replace(f"[,{_DECIMAL}]", ".")


_UNSUPPORTED = {
    r"^\d{8};[\d.;]+$": "a NinjaTrader day export",
    r"^\d{8} \d{6} \d{7};[\d.;]+$": "a NinjaTrader tick export",
    r"^\d{4}-\d{2}-\d{2},[\d.,]+$": "daily bars",
    r"^\d{2}/\d{2}/\d{4},[\d.,]+$": "daily bars",
    r"(?i)^(symbol|ticker),time": "an equity export, symbol first",
}
"""Formats that are known and have no reader, by a pattern of their first line."""


def names(head: Head, separator: str = ",") -> list[str]:
    """Return the first line's fields in lower case, without quotes and spaces around them."""
    if not head.lines:
        return []
    return [name.strip(' "').lower() for name in head.lines[0].split(separator)]


def roles(columns: Sequence[str], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Return a role for each column. ``wanted`` maps column to role; only the first of equal columns has it."""
    return tuple("" if column in columns[:n] else wanted.get(column, "") for n, column in enumerate(columns))


def value(head: Head, position: int, separator: str = ",") -> str:
    """Return a field of the first line below the header, or an empty text."""
    return next(iter(values(head, position, separator)), "")


def values(head: Head, position: int, separator: str = ",", lines: int = 1) -> list[str]:
    """Return a field of each line below the ``lines`` of the header; lines without this field are skipped."""
    rows = [line.split(separator) if '"' not in line else unquoted(line, separator) for line in head.lines[lines:]]
    return [row[position].strip(' "') for row in rows if position < len(row)]


def unquoted(line: str, separator: str) -> list[str]:
    """Return the fields of a line without their quotes; an empty list if the line is not CSV."""
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def position(head: Head, column: str, file: FileRef, separator: str = ",") -> int:
    """Return the position of a column.

    Raises:
        UnreadableFileError: the header line does not name it.
    """
    columns = names(head, separator)
    if column not in columns:
        raise UnreadableFileError(file.shown, f"a column {column}", ", ".join(columns)[:80], line=1)
    return columns.index(column)


def describe_line(line: str) -> str:
    """Return the name of the unsupported format that a first line has, else the quoted line."""
    known = next((name for pattern, name in _UNSUPPORTED.items() if re.search(pattern, line)), None)
    return known or repr(line[:80])
