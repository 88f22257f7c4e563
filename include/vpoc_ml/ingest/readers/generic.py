"""Any CSV or Parquet file whose columns are declared in ``ingest.mapping``.

``ingest.mapping = timestamp=Time, open=O, high=H, low=L, close=C, volume=V, contract=Symbol, format=%d.%m.%Y %H:%M``:
each role names a column, or its position (1, 2, ...) in a file without a header; ``date=`` and ``time=`` may stand
for ``timestamp=``; ``volume=Up+Down`` adds columns; ``contract=`` may be left out where the file name tells it;
``format`` is of the timestamp (default ISO; epoch:s, epoch:ms, epoch:us, epoch:ns); ``separator`` is comma (default),
semicolon, tab or pipe; ``decimal=comma`` reads 4000,50. Timestamps without a zone need ``ingest.timezone``; the label
side needs ``ingest.label_side``. Prices in points, volume in contracts.
"""

from __future__ import annotations

from dataclasses import replace

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import header
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly
from vpoc_ml.ingest.parsing.file_settings import clock, ends, told
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import ISO, VALUES, Layout, TimestampFormat
from vpoc_ml.ingest.parsing.zones import name_in

EXPECTED = "a CSV with the columns of ingest.mapping"
NAME = "generic"
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
WHAT = "columns of ingest.mapping"
_OPTIONS = {"separator": tuple(SEPARATORS), "decimal": ("point", "comma")}
_ROLES = {"stamp", "date", "time", *VALUES, "contract"}
_SHOWN = ("timestamp", "date", "time", *VALUES, "contract", "format", *_OPTIONS)


def declared(config: IngestConfig) -> dict[str, str]:
    """Return the mapping by role; ``timestamp`` is there under its earlier name, ``stamp``.

    Raises:
        InvalidValueError: an entry is no ``role=column``, a needed role is missing, or some roles name columns and
            others positions.
    """
    found = {}
    for entry in config.mapping:
        role, separator, column = (part.strip() for part in entry.partition("="))
        role = "stamp" if role == "timestamp" else role
        if not separator or not column or role not in _ROLES | {"format", *_OPTIONS}:
            raise InvalidValueError("ingest.mapping", entry, f"role=column with a role out of {', '.join(_SHOWN)}")
        found[role] = column
    missing = [role for role in VALUES if role not in found]
    if "stamp" not in found and not {"date", "time"} <= set(found):
        missing.insert(0, "timestamp")
    if missing:
        raise InvalidValueError(
            "ingest.mapping", ", ".join(config.mapping), f"complete; {', '.join(missing)} is missing"
        )
    for option, values in _OPTIONS.items():
        if found.get(option, values[0]) not in values:
            raise InvalidValueError("ingest.mapping", found[option], f"a {option} out of {', '.join(values)}")
    if len({column.isdecimal() and column != "0" for column in columns_of(found)}) > 1:
        raise InvalidValueError(
            "ingest.mapping", ", ".join(config.mapping), "names of columns, or positions from 1 for every role"
        )
    return found


def columns_of(mapping: dict[str, str]) -> dict[str, str]:
    """Return the mapping as lower-case column -> role of a layout; the columns of a sum have one role."""
    renamed = {"contract": "symbol"}
    return {
        part.strip().lower(): renamed.get(role, role)
        for role, column in mapping.items()
        if role in _ROLES
        for part in (column.split("+") if role == "volume" else [column])
    }


def by_position(mapping: dict[str, str]) -> bool:
    """Return whether a mapping names positions, not columns."""
    return mapping["open"].isdecimal()


def recognised(head: Head, config: IngestConfig) -> bool:
    """Return whether a mapping is declared and the file has all of its columns; by position, rows that parse."""
    if not config.mapping:
        return False
    mapping = declared(config)
    if not by_position(mapping):
        return set(columns_of(mapping)) <= set(_columns(head, mapping))
    layout = _without_stamp(head, mapping)
    formats = (mapping["format"],) if "format" in mapping else ISO
    return layout is not None and any(
        mostly(head, replace(layout, stamp=stamp))
        for stamp in (
            TimestampFormat(formats, offset=True),
            TimestampFormat(formats, zone_name=name_in(_stamps(head, mapping, layout.header))),
        )
    )


def could_be(head: Head, config: IngestConfig) -> bool:
    """Return whether a mapping by position fits the number of fields, whatever they hold."""
    if not config.mapping or not by_position(mapping := declared(config)):
        return False
    return _without_stamp(head, mapping) is not None


def _columns(head: Head, mapping: dict[str, str]) -> list[str]:
    """Return the columns of the first line: their names, or their positions."""
    columns = header.names(head, SEPARATORS[mapping.get("separator", "comma")])
    return [str(n + 1) for n in range(len(columns))] if by_position(mapping) else columns


def _without_stamp(head: Head, mapping: dict[str, str]) -> Layout | None:
    """Return how lines are divided; None where columns are missing."""
    separator = SEPARATORS[mapping.get("separator", "comma")]
    columns = _columns(head, mapping)
    if not set(columns_of(mapping)) <= set(columns):
        return None
    return Layout(
        separator,
        header.roles(columns, columns_of(mapping)),
        TimestampFormat(ISO),
        "",
        header=_header_lines(head, mapping),
        quoted=True,
        decimal_comma=mapping.get("decimal") == "comma",
        unbroken=True,
    )


def _header_lines(head: Head, mapping: dict[str, str]) -> int:
    """Return 1, or 0 where the columns are declared by position and the first line has digits for an open."""
    if not by_position(mapping):
        return 1
    first = header.values(head, int(mapping["open"]) - 1, SEPARATORS[mapping.get("separator", "comma")], lines=0)
    return int(not any(letter.isdecimal() for letter in first[0])) if first else 0


def _stamps(head: Head, mapping: dict[str, str], lines: int) -> list[str]:
    """Return the timestamps of the head's rows as they are written."""
    separator, columns = SEPARATORS[mapping.get("separator", "comma")], _columns(head, mapping)
    parts = [mapping["stamp"]] if "stamp" in mapping else [mapping["date"], mapping["time"]]
    written = [header.values(head, columns.index(part.lower()), separator, lines) for part in parts]
    return [" ".join(each) for each in zip(*written, strict=False)]


def _recognise(head: Head) -> bool:
    return False  # only a declared mapping makes a file generic; see sniff


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    mapping = declared(config)
    layout = _without_stamp(head, mapping)
    if layout is None:
        columns = _columns(head, mapping)
        missing = [column for column in columns_of(mapping) if column not in columns]
        raise UnreadableFileError(
            file.shown, f"the columns of ingest.mapping ({', '.join(missing)})", ", ".join(columns)[:80], line=1
        )
    formats = (mapping["format"],) if "format" in mapping else ISO
    stamp, zone = clock(file, NAME, config, _stamps(head, mapping, layout.header), formats, end=False)
    end = ends(file, NAME, config, default=None)
    return replace(layout, stamp=replace(stamp, end=end), note=told(zone, end=end, what=WHAT))


READER = TextReader(NAME, EXPECTED, _recognise, _layout, forced=True)
