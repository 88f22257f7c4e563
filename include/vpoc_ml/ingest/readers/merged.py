"""The earlier system's merged CSV: many contracts in one file.

``timestamp`` or ``date`` (with a column ``time`` or without), open, high, low, close, volume, VIX, contract,
session, in any case and order; its VIX and session columns are not read (the one looks ahead, the other is wrong).
Its rows are NinjaTrader minute exports glued together, so timestamps are UTC and mark the END of the bar. That is
checked on the session column: it says RTH where 09:30 <= timestamp < 16:00 on that clock, or RTH everywhere. Where it
says something else the convention is not known and ``ingest.timezone`` and ``ingest.label_side`` must state it. Prices
in points, volume in contracts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import header
from vpoc_ml.ingest.parsing.date_order import order_of
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import clock, ends, option, told
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import ISO, VALUES, Layout

EXPECTED = "the earlier system's merged CSV (timestamp|date,open,high,low,close,volume,VIX,contract,session)"
_NAME = "merged"
_STAMPS = ("timestamp", "date")
_OWN = {"vix", "contract", "session", "bar_range", "bar_return"}
_FORMATS = (*ISO, "%Y%m%d %H%M%S")
_RTH = ("09:30", "16:00")


def _recognise(head: Head) -> bool:
    columns = header.names(head)
    named = set(columns)
    plain = columns in ([name, *VALUES] for name in _STAMPS)
    return bool(named & {*_STAMPS}) and named >= {*VALUES} and (plain or bool(named & _OWN))


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    columns = header.names(head)
    parts = timestamp_columns(columns)
    written = [header.values(head, header.position(head, part, file)) for part in parts]
    stamps = [" ".join(each) for each in zip(*written, strict=False)]
    end = ends(file, _NAME, config, default=True)
    declared = option(config.reader, file) == _NAME
    if not declared and not _convention_known(columns, stamps, head):
        _refuse_unless_set(file, config)
    stamp, zone = clock(file, _NAME, config, stamps, formats(file, stamps, config), end=end, default="UTC")
    names = parts if len(parts) > 1 else ("stamp",)
    wanted = {**dict(zip(parts, names, strict=True)), "contract": "symbol", **{name: name for name in VALUES}}
    note = told(zone, end=end, what="merged CSV of NinjaTrader minute exports")
    return Layout(",", header.roles(columns, wanted), stamp, note, header=1, quoted=True)


def timestamp_columns(columns: Collection[str]) -> tuple[str, ...]:
    """Return the column of the timestamp, or those of date and time, among lower-case columns."""
    if "timestamp" not in columns and "time" in columns:
        return ("date", "time")
    return (next((name for name in _STAMPS if name in columns), _STAMPS[0]),)


def formats(file: FileRef, stamps: Sequence[str], config: IngestConfig) -> tuple[str, ...]:
    """Return the formats that timestamps of the merged file have.

    Raises:
        UnreadableFileError: slashed dates whose order cannot be known, see ``dates.order_of``.
    """
    if not stamps or "/" not in stamps[0]:
        return _FORMATS
    day = order_of(file, config)
    return (f"{day} %H:%M:%S%.f", f"{day} %H:%M")


def _convention_known(columns: list[str], stamps: Sequence[str], head: Head) -> bool:
    """Return whether the session column is what the earlier system writes for UTC stamps at the end of a bar."""
    if "session" not in columns:
        return "contract" in columns or "vix" in columns
    sessions = header.values(head, columns.index("session"))
    told_ = [(stamp[11:16], session) for stamp, session in zip(stamps, sessions, strict=False)]
    by_clock = all((_RTH[0] <= clock < _RTH[1]) == (name == "RTH") for clock, name in told_)
    return by_clock or all(name == "RTH" for _, name in told_)


def _refuse_unless_set(file: FileRef, config: IngestConfig) -> None:
    if option(config.timezone, file, _NAME) and option(config.label_side, file, _NAME):
        return
    raise UnreadableFileError(
        file.shown,
        "stamps whose zone and side of the bar are known",
        "a session column that is not the earlier system's rule (RTH where 09:30 <= UTC stamp < 16:00)",
        remedy="Set ingest.timezone (such as UTC) and ingest.label_side (start or end).",
    )


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
