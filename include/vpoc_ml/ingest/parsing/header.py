"""Columns by the names in a header line, and what an unknown first line shows."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence

from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.reader import FileRef

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
