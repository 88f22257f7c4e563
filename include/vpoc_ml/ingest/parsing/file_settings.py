"""Settings that override what a file's content shows: one value for all files, or ``pattern=value`` pairs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from zoneinfo import ZoneInfo

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.parsing import time_text
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import LabelSide, TimestampFormat

_SIDES: dict[str, LabelSide] = {"start": "start", "end": "end"}


def setting_for(setting: str, file: FileRef, reader: str = "") -> str | None:
    """Return the value that a setting has for a file; None for ``auto``.

    ``America/Chicago`` holds for every file. ``sierra_text=America/Chicago, *.csv=America/New_York`` holds for files
    whose name matches a pattern or whose reader has this name; the first match counts.
    """
    for part in setting.split(","):
        pattern, separator, value = part.strip().rpartition("=")
        names = (file.name, file.path.name, reader)
        if not separator or any(fnmatch(name, pattern.strip()) for name in names):
            return None if value.strip() in ("", "auto") else value.strip()
    return None


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
    if name := time_text.name_in(timestamps):
        form = TimestampFormat(formats, name, label_side, zone_name=name)
        return form, f"local times of the zone {name} in their text"
    carried = any(map(time_text.carries_offset, timestamps))
    if carried and not any(map(time_text.is_local, timestamps)):
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
