"""Time zones that timestamps carry themselves: offsets, abbreviations and names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import polars as pl

_ABBREVIATIONS = {
    "UTC": "+0000",
    "GMT": "+0000",
    "EST": "-0500",
    "EDT": "-0400",
    "CST": "-0600",
    "CDT": "-0500",
    "MST": "-0700",
    "MDT": "-0600",
    "PST": "-0800",
    "PDT": "-0700",
    "BST": "+0100",
    "CET": "+0100",
    "CEST": "+0200",
    "MEZ": "+0100",
    "MESZ": "+0200",
}
"""Zones of the exchanges in America and Europe. Abbreviations are not unique in the world: ``check_zone`` of
``ingest.convention`` refuses bars that lie outside the exchange's hours because another one was meant."""
_CLOCK = r"(?:\d:\d{2}(?:[.,]\d+)?|\d{6})"
_OFFSET = re.compile(rf"{_CLOCK}\s*(?:Z|[+-]\d{{2}}(?::?\d{{2}})?|\s(?:{'|'.join(_ABBREVIATIONS)}))$")
_LOCAL = re.compile(rf"{_CLOCK}(?:\s*[AaPp][Mm])?$")
_NAME = re.compile(r"\s([A-Za-z]{2,}(?:/[A-Za-z_+-]+)*)$")


def carries_offset(stamp: str) -> bool:
    """Return whether a timestamp ends with an offset, ``Z`` or a known abbreviation of a zone."""
    return _OFFSET.search(stamp) is not None


def is_local(stamp: str) -> bool:
    """Return whether a timestamp ends with a clock time, so that it tells no zone."""
    return _LOCAL.search(stamp) is not None and not carries_offset(stamp)


def name_in(stamps: Sequence[str]) -> str:
    """Return the zone that the first timestamp names, such as ``US/Eastern``; empty if it names none."""
    named = _NAME.search(stamps[0]) if stamps else None
    return named[1] if named and named[1] not in _ABBREVIATIONS and _exists(named[1]) else ""


def with_offsets(text: pl.Expr) -> pl.Expr:
    """Return timestamps whose final ``Z``, abbreviation or short offset is an offset as ``%z`` reads it."""
    numeric = text.str.replace(r"\s*Z$", "+0000").str.replace(r"\s*([+-]\d{2})$", "${1}00")
    spaced = {f" {name}": offset for name, offset in _ABBREVIATIONS.items()}
    return numeric.str.replace(r"\s+([+-]\d{2}:?\d{2})$", "$1").str.replace_many(
        list(spaced), list(spaced.values()), leftmost=True
    )


def remedy(stamp: str, zone: str | None) -> str:
    """Return what to do about a timestamp that could not be read."""
    if zone is None and not carries_offset(stamp) and not _NAME.search(stamp):
        return "Set ingest.timezone to the zone of timestamps without one."
    if (named := _NAME.search(stamp)) and named[1].upper() not in ("AM", "PM"):
        return f"{named[1]} is no known zone: write an offset such as -05:00 or a name such as America/New_York."
    return "Add the format of the timestamps to ingest.mapping, such as format=%d.%m.%Y %H:%M."


def _exists(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
