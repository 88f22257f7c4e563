"""Settings that override what sniffing finds: one value for all files, or ``pattern=value`` pairs."""

from __future__ import annotations

from fnmatch import fnmatch
from zoneinfo import ZoneInfo

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.readers.base import Place


def option(setting: str, place: Place, reader: str = "") -> str | None:
    """Return the value of a setting for a place, or None for ``auto``.

    ``America/Chicago`` holds for every file; ``sierra_text=America/Chicago, *.csv=America/New_York`` for those whose
    name fits a pattern or whose reader has this name, the first that fits.
    """
    for part in setting.split(","):
        pattern, separator, value = part.strip().rpartition("=")
        names = (place.name, place.path.name, reader)
        if not separator or any(fnmatch(name, pattern.strip()) for name in names):
            return None if value.strip() in ("", "auto") else value.strip()
    return None


def zone_of(place: Place, reader: str, config: IngestConfig, default: str | None) -> str:
    """Return the zone of stamps that do not tell theirs: as set, else the vendor's.

    Raises:
        InvalidValueError: the setting names no zone.
        UnreadableFileError: neither is known.
    """
    zone = option(config.timezone, place, reader) or default
    if zone is None:
        raise UnreadableFileError(
            place.shown,
            "stamps whose time zone is known",
            "local times without a zone",
            remedy="Set ingest.timezone, such as America/Chicago, to the zone the file was exported in.",
        )
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidValueError("ingest.timezone", zone, "a time zone such as America/Chicago or UTC") from error
    return zone


def ends(place: Place, reader: str, config: IngestConfig, *, default: bool | None) -> bool:
    """Return whether stamps mark the END of a bar: as set, else the vendor's convention.

    Raises:
        InvalidValueError: the setting is neither start nor end.
        UnreadableFileError: neither is known.
    """
    side = option(config.stamp, place, reader)
    if side not in (None, "start", "end"):
        raise InvalidValueError("ingest.stamp", side, "start or end")
    if side is None and default is None:
        raise UnreadableFileError(
            place.shown,
            "stamps of which the side of the bar is known",
            "nothing that tells it",
            remedy="Set ingest.stamp to start or end.",
        )
    return bool(default) if side is None else side == "end"


def told(zone: str, *, end: bool, what: str, units: str = "prices in points, volume in contracts") -> str:
    """Return the sentence about a format for the run's report."""
    side = "the end of a bar; moved back 60 s to its start" if end else "the start of a bar"
    return f"{what}: stamps are {zone} and mark {side}; {units}"
