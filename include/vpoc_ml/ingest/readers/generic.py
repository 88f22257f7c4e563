"""Any CSV or Parquet file whose columns are declared in ``ingest.mapping``.

``ingest.mapping = timestamp=Time, open=O, high=H, low=L, close=C, volume=V, contract=Symbol, format=%d.%m.%Y %H:%M``:
each role names a column, or its position (1, 2, ...) in a file without a header. ``date=`` and ``time=`` may replace
``timestamp=``. ``volume=Up+Down`` adds columns. ``contract=`` is optional if the file name holds the contract.
``format`` is that of the timestamp (default ISO; epoch:s, epoch:ms, epoch:us, epoch:ns). ``separator`` is comma
(default), semicolon, tab or pipe. ``decimal=comma`` reads 4000,50. Timestamps without a zone need ``ingest.timezone``;
the label side needs ``ingest.label_side``. Prices in points, volume in contracts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import (
    ISO,
    TimestampFormat,
    describe_format,
    label_side_of,
    name_in,
    timestamp_format,
)

NAME = "generic"
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_OPTIONS = {"separator": tuple(SEPARATORS), "decimal": ("point", "comma")}
_ROLES = ("timestamp", "date", "time", *OHLCV, "contract")


@dataclass(frozen=True)
class ColumnMapping:
    """``ingest.mapping``, parsed.

    Attributes:
        columns: column, or position as text, by role; roles are those of a layout, and ``contract``.
        formats: formats of the timestamp.
        separator: between fields.
        decimal_comma: numbers are written 4000,50.
    """

    columns: dict[str, str]
    formats: tuple[str, ...]
    separator: str
    decimal_comma: bool

    @property
    def by_position(self) -> bool:
        """Whether the roles name positions, not columns."""
        return self.columns["open"].isdecimal()

    @property
    def roles(self) -> dict[str, str]:
        """Role of a layout by lower-case column; all columns of a sum have the role volume."""
        return {
            part.strip().lower(): "symbol" if role == "contract" else role
            for role, column in self.columns.items()
            for part in (column.split("+") if role == "volume" else [column])
        }

    def columns_of(self, head: Head) -> list[str]:
        """Return the columns of the first line: their names in lower case, or their positions."""
        columns = text_layout.names(head, self.separator)
        return [str(n + 1) for n in range(len(columns))] if self.by_position else columns

    def layout(self, head: Head) -> Layout | None:
        """Return the layout of a text, with ISO timestamps and without a note; None if columns are missing."""
        columns, lines = self.columns_of(head), 1
        if not set(self.roles) <= set(columns):
            return None
        if self.by_position:  # no header, unless the first line has no digits as its open
            opens = text_layout.values(head, int(self.columns["open"]) - 1, self.separator, lines=0)
            lines = int(not any(letter.isdecimal() for letter in opens[0])) if opens else 0
        return Layout(
            self.separator,
            text_layout.roles(columns, self.roles),
            TimestampFormat(ISO),
            "",
            header=lines,
            quoted=True,
            decimal_comma=self.decimal_comma,
            final_newline_optional=True,
        )

    def timestamps(self, head: Head, lines: int) -> list[str]:
        """Return the timestamps of the rows below the ``lines`` of the header, as written."""
        columns, roles = self.columns_of(head), ["timestamp"] if "timestamp" in self.columns else ["date", "time"]
        positions = [columns.index(self.columns[role].lower()) for role in roles]
        written = [text_layout.values(head, position, self.separator, lines) for position in positions]
        return [" ".join(each) for each in zip(*written, strict=False)]


def parse_mapping(config: IngestConfig) -> ColumnMapping:
    """Return ``ingest.mapping``. ``stamp=`` is accepted as the former name of ``timestamp=``.

    Raises:
        InvalidValueError: an entry is not of the form ``role=column``, a needed role is missing, or some roles name
            columns and others positions.
    """
    found = {}
    for entry in config.mapping:
        role, separator, column = (part.strip() for part in entry.partition("="))
        role = "timestamp" if role == "stamp" else role
        if not separator or not column or role not in (*_ROLES, "format", *_OPTIONS):
            shown = ", ".join((*_ROLES, "format", *_OPTIONS))
            raise InvalidValueError("ingest.mapping", entry, f"role=column with a role out of {shown}")
        found[role] = column
    written = ", ".join(config.mapping)
    missing = [role for role in OHLCV if role not in found]
    if "timestamp" not in found and not {"date", "time"} <= set(found):
        missing.insert(0, "timestamp")
    if missing:
        raise InvalidValueError("ingest.mapping", written, f"complete; {', '.join(missing)} is missing")
    for option, values in _OPTIONS.items():
        if found.get(option, values[0]) not in values:
            raise InvalidValueError("ingest.mapping", found[option], f"a {option} out of {', '.join(values)}")
    mapping = ColumnMapping(
        {role: column for role, column in found.items() if role in _ROLES},
        (found["format"],) if "format" in found else ISO,
        SEPARATORS[found.get("separator", "comma")],
        found.get("decimal") == "comma",
    )
    if len({column.isdecimal() and column != "0" for column in mapping.roles}) > 1:
        raise InvalidValueError("ingest.mapping", written, "names of columns, or positions from 1 for every role")
    return mapping


def matches_mapping(head: Head, config: IngestConfig) -> bool:
    """Return whether a mapping is declared and the file has all of its columns; by position, rows that parse."""
    if not config.mapping:
        return False
    mapping = parse_mapping(config)
    if not mapping.by_position:
        return set(mapping.roles) <= set(mapping.columns_of(head))
    layout = mapping.layout(head)
    if layout is None:
        return False
    zone_name = name_in(mapping.timestamps(head, layout.header))
    tried = (TimestampFormat(mapping.formats, offset=True), TimestampFormat(mapping.formats, zone_name=zone_name))
    return any(mostly(head, replace(layout, timestamp=each)) for each in tried)


def missing_columns(head: Head, config: IngestConfig) -> list[str]:
    """Return the columns of ``ingest.mapping`` that the file lacks, in lower case; none without a mapping."""
    if not config.mapping:
        return []
    mapping = parse_mapping(config)
    columns = mapping.columns_of(head)
    return [column for column in mapping.roles if column not in columns]


def fits_positions(head: Head, config: IngestConfig) -> bool:
    """Return whether a mapping by position fits the number of fields, whatever they hold."""
    if not config.mapping or not (mapping := parse_mapping(config)).by_position:
        return False
    return mapping.layout(head) is not None


# only a declared mapping makes a file generic; see ``ingest.discover.choose_reader``
class GenericReader(TextReader):
    """Reader of the columns that ``ingest.mapping`` names; no content chooses it."""

    name = NAME
    expected = "a CSV with the columns of ingest.mapping"
    forced = True

    def fits(self, head: Head) -> bool:
        return False

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        mapping = parse_mapping(config)
        layout = mapping.layout(head)
        if layout is None:
            missing, columns = ", ".join(missing_columns(head, config)), ", ".join(mapping.columns_of(head))
            raise UnreadableFileError(file.shown, f"the columns of ingest.mapping ({missing})", columns[:80], line=1)
        written = mapping.timestamps(head, layout.header)
        form, zone = timestamp_format(file, self.name, config, written, mapping.formats, label_side="start")
        side = label_side_of(file, self.name, config, None)
        note = describe_format("columns of ingest.mapping", zone, side)
        return replace(layout, timestamp=replace(form, label_side=side), note=note)


READER = GenericReader()
