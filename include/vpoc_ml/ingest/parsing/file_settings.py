"""Settings that override what sniffing finds: one value for all files, or ``pattern=value`` pairs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from zoneinfo import ZoneInfo

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.parsing import zones
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import TimestampFormat


def option(setting: str, file: FileRef, reader: str = "") -> str | None:
    """Return the value of a setting for a place, or None for ``auto``.

    ``America/Chicago`` holds for every file; ``sierra_text=America/Chicago, *.csv=America/New_York`` for those whose
    name fits a pattern or whose reader has this name, the first that fits.
    """
    for part in setting.split(","):
        pattern, separator, value = part.strip().rpartition("=")
        names = (file.name, file.path.name, reader)
        if not separator or any(fnmatch(name, pattern.strip()) for name in names):
            return None if value.strip() in ("", "auto") else value.strip()
    return None


def zone_of(file: FileRef, reader: str, config: IngestConfig, default: str | None) -> str:
    """Return the zone of stamps that do not tell theirs: as set, else the vendor's.

    Raises:
        InvalidValueError: the setting names no zone.
        UnreadableFileError: neither is known.
    """
    zone = option(config.timezone, file, reader) or default
    if zone is None:
        raise UnreadableFileError(
            file.shown,
            "stamps whose time zone is known",
            "local times without a zone",
            remedy="Set ingest.timezone, such as America/Chicago, to the zone the file was exported in.",
        )
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidValueError("ingest.timezone", zone, "a time zone such as America/Chicago or UTC") from error
    return zone


def clock(
    file: FileRef,
    reader: str,
    config: IngestConfig,
    stamps: Sequence[str],
    formats: tuple[str, ...],
    *,
    end: bool,
    default: str | None = None,
) -> tuple[TimestampFormat, str]:
    """Return how timestamps are written and the words for their zone, judged by the first of them.

    An offset or a zone's name in a timestamp counts. Those without one are of ``ingest.timezone``, else of
    ``default``.

    Raises:
        InvalidValueError: the setting names no zone.
        UnreadableFileError: timestamps without a zone, and the setting is not made.
    """
    if all(form.startswith("epoch") or "%z" in form or form.endswith("Z") for form in formats):
        return TimestampFormat(formats, None, end), "with their zone"
    if name := zones.name_in(stamps):
        return TimestampFormat(formats, name, end, zone_name=name), f"local times of {name}, which they name"
    carried = any(map(zones.carries_offset, stamps))
    if carried and not any(map(zones.is_local, stamps)):
        known = default or option(config.timezone, file, reader)
        zone = zone_of(file, reader, config, default) if known else None
        return TimestampFormat(formats, zone, end, offset=True), "with their offset"
    zone = zone_of(file, reader, config, default)
    shown = zone if default else f"{zone} local times (ingest.timezone)"
    return TimestampFormat(formats, zone, end, offset=carried), shown


def ends(file: FileRef, reader: str, config: IngestConfig, *, default: bool | None) -> bool:
    """Return whether stamps mark the END of a bar: as set, else the vendor's convention.

    Raises:
        InvalidValueError: the setting is neither start nor end.
        UnreadableFileError: neither is known.
    """
    side = option(config.label_side, file, reader)
    if side not in (None, "start", "end"):
        raise InvalidValueError("ingest.label_side", side, "start or end")
    if side is None and default is None:
        raise UnreadableFileError(
            file.shown,
            "stamps of which the side of the bar is known",
            "nothing that tells it",
            remedy="Set ingest.label_side to start or end.",
        )
    return bool(default) if side is None else side == "end"


def told(zone: str, *, end: bool, what: str, units: str = "prices in points, volume in contracts") -> str:
    """Return the sentence about a format for the run's report."""
    side = "the end of a bar; moved back 60 s to its start" if end else "the start of a bar"
    return f"{what}: stamps are {zone} and mark {side}; {units}"
