"""Columns by the names in a header line."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.reader import FileRef


def names(head: Head, separator: str = ",") -> list[str]:
    """Return the first line's fields in lower case, without quotes and spaces around them."""
    if not head.lines:
        return []
    return [name.strip(' "').lower() for name in head.lines[0].split(separator)]


def roles(columns: Sequence[str], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Return a role for each column: ``wanted`` maps column to role; a repeated column has it once."""
    return tuple("" if column in columns[:n] else wanted.get(column, "") for n, column in enumerate(columns))


def value(head: Head, position: int, separator: str = ",") -> str:
    """Return a field of the first line below the header, or an empty text."""
    return next(iter(values(head, position, separator)), "")


def values(head: Head, position: int, separator: str = ",", lines: int = 1) -> list[str]:
    """Return a field of the first lines below the header's ``lines``, as far as they have it."""
    rows = [line.split(separator) if '"' not in line else unquoted(line, separator) for line in head.lines[lines:]]
    return [row[position].strip(' "') for row in rows if position < len(row)]


def unquoted(line: str, separator: str) -> list[str]:
    """Return the fields of a line, whatever quotes stand around them; none of a line that is no CSV."""
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def position(head: Head, column: str, file: FileRef, separator: str = ",") -> int:
    """Return where a column stands.

    Raises:
        UnreadableFileError: the header line does not name it.
    """
    columns = names(head, separator)
    if column not in columns:
        raise UnreadableFileError(file.shown, f"a column {column}", ", ".join(columns)[:80], line=1)
    return columns.index(column)
