"""Any CSV or Parquet file whose columns are declared in ``ingest.mapping``.

``ingest.mapping = stamp=Time, open=O, high=H, low=L, close=C, volume=V, contract=Symbol, format=%d.%m.%Y %H:%M``:
each role names a column; ``date=`` and ``time=`` may stand for ``stamp=``; ``contract=`` may be left out where the
file name tells it; ``format`` is of the stamp (default ISO; epoch:s, epoch:ms, epoch:us, epoch:ns);
``separator`` is comma (default), semicolon, tab or pipe. Stamps without a zone need ``ingest.timezone``; the side
of the bar needs ``ingest.stamp``. Prices in points, volume in contracts.
"""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.readers import header
from vpoc_ml.ingest.readers.base import Place
from vpoc_ml.ingest.readers.delimited import TextReader
from vpoc_ml.ingest.readers.layout import VALUES, Layout, Stamp
from vpoc_ml.ingest.readers.options import ends, told, zone_of
from vpoc_ml.ingest.streams import Head

EXPECTED = "a CSV with the columns of ingest.mapping"
NAME = "generic"
ISO = (
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S%z",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M",
)
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_ROLES = {"stamp", "date", "time", *VALUES, "contract"}


def declared(config: IngestConfig) -> dict[str, str]:
    """Return the mapping by role.

    Raises:
        InvalidValueError: an entry is no ``role=column``, or a needed role is missing.
    """
    found = {}
    for entry in config.mapping:
        role, separator, column = (part.strip() for part in entry.partition("="))
        if not separator or role not in _ROLES | {"format", "separator"}:
            raise InvalidValueError(
                "ingest.mapping", entry, f"role=column with a role out of {', '.join(sorted(_ROLES))}"
            )
        found[role] = column
    missing = [role for role in VALUES if role not in found]
    if "stamp" not in found and not {"date", "time"} <= set(found):
        missing.insert(0, "stamp")
    if missing:
        raise InvalidValueError(
            "ingest.mapping", ", ".join(config.mapping), f"complete; {', '.join(missing)} is missing"
        )
    if found.get("separator", "comma") not in SEPARATORS:
        raise InvalidValueError("ingest.mapping", found["separator"], f"a separator out of {', '.join(SEPARATORS)}")
    return found


def columns_of(mapping: dict[str, str]) -> dict[str, str]:
    """Return the mapping as lower-case column -> role of a layout."""
    renamed = {"contract": "symbol"}
    return {column.lower(): renamed.get(role, role) for role, column in mapping.items() if role in _ROLES}


def recognised(head: Head, config: IngestConfig) -> bool:
    """Return whether a mapping is declared and the header line holds all of its columns."""
    if not config.mapping:
        return False
    mapping = declared(config)
    columns = header.names(head, SEPARATORS[mapping.get("separator", "comma")])
    return set(columns_of(mapping)) <= set(columns)


def stamp_of(place: Place, config: IngestConfig, formats: tuple[str, ...], *, aware: bool) -> tuple[Stamp, str]:
    """Return how stamps are written and the note that says so."""
    zone = "UTC" if aware else zone_of(place, NAME, config, None)
    end = ends(place, NAME, config, default=None)
    shown = "with their zone" if aware else f"{zone} local times (ingest.timezone)"
    return Stamp(formats, zone, end), told(shown, end=end, what="columns of ingest.mapping")


def _recognise(head: Head) -> bool:
    return False  # only a declared mapping makes a file generic; see sniff


def _layout(place: Place, head: Head, config: IngestConfig) -> Layout:
    mapping = declared(config)
    separator = SEPARATORS[mapping.get("separator", "comma")]
    columns = header.names(head, separator)
    wanted = columns_of(mapping)
    if missing := [column for column in wanted if column not in columns]:
        raise UnreadableFileError(
            place.shown, f"the columns of ingest.mapping ({', '.join(missing)})", ", ".join(columns)[:80], line=1
        )
    formats = (mapping["format"],) if "format" in mapping else ISO
    first = header.value(head, columns.index(mapping.get("stamp", mapping.get("date", "")).lower()), separator)
    aware = formats[0].startswith("epoch") or first.endswith("Z") or (formats == ISO and first[-6:-5] in ("+", "-"))
    stamp, note = stamp_of(place, config, formats, aware=aware or "%z" in formats[0])
    return Layout(separator, header.roles(columns, wanted), stamp, note, header=1, quoted=separator == ",")


READER = TextReader(NAME, EXPECTED, _recognise, _layout, forced=True)
