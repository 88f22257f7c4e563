"""How a file writes time: the notation of its timestamps, their zone and label side, and the settings for these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.file_streams import blocks, open_unpacked
from vpoc_ml.ingest.parsing.reader import FileRef, setting_for

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
the bars lie outside the exchange's hours and ``check_zone`` of ``ingest.clean`` refuses them."""
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


def describe_unreadable(timestamp: str, zone: str | None) -> str:
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


LabelSide = Literal["start", "end"]
"""The side of a bar that its timestamp marks."""

ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
_EPOCHS = {"epoch:s": 1_000_000, "epoch:ms": 1_000, "epoch:us": 1, "epoch:ns": -1_000}
_UNIX_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class TimestampFormat:
    """The notation of a timestamp.

    Attributes:
        formats: tried in order. Chrono formats (with ``%z`` or a final ``Z`` if the text holds its zone), or
            ``epoch:s``, ``epoch:ms``, ``epoch:us``, ``epoch:ns``.
        zone: time zone of timestamps without one; None: such timestamps are not read.
        label_side: the side of the bar that timestamps mark.
        origin: the day from which ``epoch`` formats count.
        length: only this many characters are read; None: all.
        offset: an offset, ``Z`` or a zone's abbreviation may follow the formats.
        zone_name: this zone name always follows the formats.
    """

    formats: tuple[str, ...]
    zone: str | None = "UTC"
    label_side: LabelSide = "start"
    origin: date = _UNIX_EPOCH
    length: int | None = None
    offset: bool = False
    zone_name: str = ""

    def to_utc(self, text: pl.Expr) -> pl.Expr:
        """Return START-of-bar UTC timestamps of text; null if it does not parse or the local time is ambiguous."""
        text = text if self.length is None else text.str.slice(0, self.length)
        if self.zone_name:
            text = pl.when(text.str.ends_with(self.zone_name)).then(text.str.strip_suffix(self.zone_name))
            text = text.str.strip_chars_end(" ")
        with_zone = [form for form in self.formats if form in _EPOCHS or "%z" in form or form.endswith("Z")]
        without_zone = [form for form in self.formats if form not in with_zone]
        if self.offset:
            with_zone += [f"{form}%z" for form in without_zone]
            text = with_offsets(text)
        parsed = [self._parsed(text, form) for form in with_zone]
        if self.zone is not None:
            local = (text.str.to_datetime(form, strict=False, time_unit="us") for form in without_zone)
            zoned = (each.dt.replace_time_zone(self.zone, ambiguous="null", non_existent="null") for each in local)
            parsed += [each.dt.convert_time_zone("UTC") for each in zoned]
        timestamp = pl.coalesce(*parsed)
        return timestamp - pl.duration(minutes=1) if self.label_side == "end" else timestamp

    def _parsed(self, text: pl.Expr, form: str) -> pl.Expr:
        """Return UTC timestamps of a format that holds the zone."""
        if form in _EPOCHS:
            factor, number = _EPOCHS[form], text.cast(pl.Int64, strict=False)
            micros = number * factor if factor > 0 else number // -factor
            return micros.cast(pl.Datetime("us", "UTC")) + (self.origin - _UNIX_EPOCH)
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
        return parsed.dt.convert_time_zone("UTC") if "%z" in form else parsed.dt.replace_time_zone("UTC")


_SIDES: dict[str, LabelSide] = {"start": "start", "end": "end"}


def zone_of(file: FileRef, reader: str, config: IngestConfig, default: str | None) -> str:
    """Return the zone of timestamps without one: ``ingest.timezone``, else the vendor's.

    Raises:
        InvalidValueError: the setting is no time zone.
        UnreadableFileError: neither is known.
    """
    zone = setting_for(config.timezone, file, reader) or default
    if zone is None:
        raise UnreadableFileError(
            file.shown,
            "timestamps whose time zone is known",
            "local times without a zone",
            remedy="Set ingest.timezone, such as America/Chicago, to the zone the file was exported in.",
        )
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidValueError("ingest.timezone", zone, "a time zone such as America/Chicago or UTC") from error
    return zone


def timestamp_format(
    file: FileRef,
    reader: str,
    config: IngestConfig,
    timestamps: Sequence[str],
    formats: tuple[str, ...],
    *,
    label_side: LabelSide,
    default: str | None = None,
) -> tuple[TimestampFormat, str]:
    """Return the notation of a file's timestamps, and a phrase that describes their zone.

    An offset or a zone name in a timestamp counts. Timestamps without one have the zone ``ingest.timezone``, else
    ``default``.

    Args:
        file: the file.
        reader: name of its reader.
        config: settings.
        timestamps: the first timestamps of the file, as written.
        formats: notations to try.
        label_side: the side of the bar that timestamps mark.
        default: zone of timestamps without one, if the setting is not made.

    Raises:
        InvalidValueError: the setting is no time zone.
        UnreadableFileError: timestamps without a zone, and the setting is not made.
    """
    if all(form.startswith("epoch") or "%z" in form or form.endswith("Z") for form in formats):
        return TimestampFormat(formats, None, label_side), "with their zone"
    if name := name_in(timestamps):
        form = TimestampFormat(formats, name, label_side, zone_name=name)
        return form, f"local times of the zone {name} in their text"
    carried = any(map(carries_offset, timestamps))
    if carried and not any(map(is_local, timestamps)):
        known = default or setting_for(config.timezone, file, reader)
        zone = zone_of(file, reader, config, default) if known else None
        return TimestampFormat(formats, zone, label_side, offset=True), "with their offset"
    zone = zone_of(file, reader, config, default)
    shown = zone if default else f"{zone} local times (ingest.timezone)"
    return TimestampFormat(formats, zone, label_side, offset=carried), shown


def label_side_of(file: FileRef, reader: str, config: IngestConfig, default: LabelSide | None) -> LabelSide:
    """Return the side of the bar that timestamps mark: ``ingest.label_side``, else the vendor's convention.

    Raises:
        InvalidValueError: the setting is neither start nor end.
        UnreadableFileError: neither is known.
    """
    side = setting_for(config.label_side, file, reader) or default
    if side is None:
        raise UnreadableFileError(
            file.shown,
            "timestamps that mark a known side of the bar",
            "a file that does not state the side",
            remedy="Set ingest.label_side to start or end.",
        )
    if side not in _SIDES:
        raise InvalidValueError("ingest.label_side", side, "start or end")
    return _SIDES[side]


def describe_format(what: str, zone: str, label_side: LabelSide) -> str:
    """Return the sentence about a format for the run's report."""
    side = "the end of a bar; moved back 60 s to its start" if label_side == "end" else "the start of a bar"
    return f"{what}: timestamps are {zone} and mark {side}; prices in points, volume in contracts"
