"""Timestamps in texts: time zones (offsets, abbreviations, names), and the order of month and day in slashed dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import blocks, open_unpacked
from vpoc_ml.ingest.parsing.reader import FileRef

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
"""Zones of the exchanges in America and Europe. Abbreviations are not unique in the world: if another zone was meant,
the bars lie outside the exchange's hours and ``check_zone`` of ``ingest.convention`` refuses them."""
_CLOCK = r"(?:\d:\d{2}(?:[.,]\d+)?|\d{6})"
_OFFSET = re.compile(rf"{_CLOCK}\s*(?:Z|[+-]\d{{2}}(?::?\d{{2}})?|\s(?:{'|'.join(_ABBREVIATIONS)}))$")
_LOCAL = re.compile(rf"{_CLOCK}(?:\s*[AaPp][Mm])?$")
_NAME = re.compile(r"\s([A-Za-z]{2,}(?:/[A-Za-z_+-]+)*)$")


def carries_offset(timestamp: str) -> bool:
    """Return whether a timestamp ends with an offset, ``Z`` or a known abbreviation of a zone."""
    return _OFFSET.search(timestamp) is not None


def is_local(timestamp: str) -> bool:
    """Return whether a timestamp ends with a clock time, so that it has no zone."""
    return _LOCAL.search(timestamp) is not None and not carries_offset(timestamp)


def name_in(timestamps: Sequence[str]) -> str:
    """Return the time zone that the first timestamp names, such as ``US/Eastern``; empty if it names none."""
    named = _NAME.search(timestamps[0]) if timestamps else None
    if named is None or named[1] in _ABBREVIATIONS:
        return ""
    try:
        ZoneInfo(named[1])
    except (KeyError, ValueError, OSError):
        return ""
    return named[1]


def with_offsets(text: pl.Expr) -> pl.Expr:
    """Return timestamps whose final ``Z``, abbreviation or short offset is an offset as ``%z`` reads it."""
    numeric = text.str.replace(r"\s*Z$", "+0000").str.replace(r"\s*([+-]\d{2})$", "${1}00")
    spaced = {f" {name}": offset for name, offset in _ABBREVIATIONS.items()}
    return numeric.str.replace(r"\s+([+-]\d{2}:?\d{2})$", "$1").str.replace_many(
        list(spaced), list(spaced.values()), leftmost=True
    )


def remedy(timestamp: str, zone: str | None) -> str:
    """Return what to do about a timestamp that could not be read."""
    if zone is None and not carries_offset(timestamp) and not _NAME.search(timestamp):
        return "Set ingest.timezone to the zone of timestamps without one."
    if (named := _NAME.search(timestamp)) and named[1].upper() not in ("AM", "PM"):
        return f"{named[1]} is no known zone: write an offset such as -05:00 or a name such as America/New_York."
    return "Add the format of the timestamps to ingest.mapping, such as format=%d.%m.%Y %H:%M."


MONTH_FIRST, DAY_FIRST = "%m/%d/%Y", "%d/%m/%Y"
_DATE = r"^[^\d]{0,2}(?<one>\d{1,2})/(?<two>\d{1,2})/\d{4}"


def order_of(file: FileRef, config: IngestConfig) -> str:
    """Return the chrono format of slashed dates at the start of lines; the file is read until a day above 12.

    Raises:
        UnreadableFileError: no day is above 12, so both orders fit, and ``ingest.date_order`` is not set.
    """
    if config.date_order != "auto":
        return MONTH_FIRST if config.date_order == "month_first" else DAY_FIRST
    with open_unpacked(file.path, file.member, ratio=config.expansion_limit) as stream:
        for block in blocks(stream):
            parts = pl.Series("text", [block.text]).str.split("\n").explode().str.extract_groups(_DATE).struct.unnest()
            days = parts.select(pl.all().cast(pl.Int32, strict=False).max())
            one, two = days.row(0)
            if (one or 0) > 12 or (two or 0) > 12:
                return DAY_FIRST if (one or 0) > 12 else MONTH_FIRST
    raise UnreadableFileError(
        file.shown,
        "dates that show the order of month and day",
        "no day above 12",
        remedy="Set ingest.date_order to month_first or day_first.",
    )
