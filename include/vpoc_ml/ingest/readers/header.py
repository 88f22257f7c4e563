"""Columns by the names in a header line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vpoc_ml.ingest.streams import Head


def names(head: Head, separator: str = ",") -> list[str]:
    """Return the first line's fields in lower case, without quotes and spaces around them."""
    if not head.lines:
        return []
    return [name.strip(' "').lower() for name in head.lines[0].split(separator)]


def roles(columns: Sequence[str], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Return a role for each column: ``wanted`` maps column to role; a repeated column has it once."""
    taken: set[str] = set()
    fields = []
    for column in columns:
        role = wanted.get(column, "")
        fields.append("" if role in taken else role)
        taken.add(role)
    return tuple(fields)


def value(head: Head, position: int, separator: str = ",") -> str:
    """Return a field of the first line below the header, or an empty text."""
    fields = head.lines[1].split(separator) if len(head.lines) > 1 else []
    return fields[position].strip(' "') if position < len(fields) else ""
