"""The earlier system's merged CSV: many contracts in one file.

``timestamp`` or ``date``, open, high, low, close, volume, VIX, contract, session, in any case and order; its VIX and
session columns are not read (the one looks ahead, the other is wrong). Its rows are NinjaTrader minute exports
glued together, so stamps are UTC and mark the END of the bar. That is checked on the session column: it says RTH
where 09:30 <= stamp < 16:00 on that clock, or RTH everywhere. Where it says something else the convention is not
known and ``ingest.timezone`` and ``ingest.stamp`` must tell it. Prices in points, volume in contracts.
"""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.readers import header
from vpoc_ml.ingest.readers.base import Place
from vpoc_ml.ingest.readers.delimited import TextReader
from vpoc_ml.ingest.readers.layout import VALUES, Layout, Stamp
from vpoc_ml.ingest.readers.options import ends, option, told, zone_of
from vpoc_ml.ingest.streams import Head

EXPECTED = "the earlier system's merged CSV (timestamp|date,open,high,low,close,volume,VIX,contract,session)"
_NAME = "merged"
_STAMPS = ("timestamp", "date")
_OWN = {"vix", "contract", "session", "bar_range", "bar_return"}
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S")
_AWARE = ("%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%SZ")
_RTH = ("09:30", "16:00")


def _recognise(head: Head) -> bool:
    columns = header.names(head)
    named = set(columns)
    plain = columns in ([name, *VALUES] for name in _STAMPS)
    return bool(named & {*_STAMPS}) and named >= {*VALUES} and (plain or bool(named & _OWN))


def _layout(place: Place, head: Head, config: IngestConfig) -> Layout:
    columns = header.names(head)
    stamp = next(name for name in _STAMPS if name in columns)
    first = header.value(head, columns.index(stamp))
    aware = first.endswith("Z") or first[-6:-5] in ("+", "-")
    zone = zone_of(place, _NAME, config, "UTC")
    end = ends(place, _NAME, config, default=True)
    declared = option(config.reader, place) == _NAME
    if not declared and not _convention_known(columns, columns.index(stamp), head):
        _refuse_unless_set(place, config)
    wanted = {stamp: "stamp", "contract": "symbol", **{name: name for name in VALUES}}
    return Layout(
        ",",
        header.roles(columns, wanted),
        Stamp((*_AWARE, *_FORMATS) if aware else _FORMATS, zone, end),
        told("with their offset" if aware else zone, end=end, what="merged CSV of NinjaTrader minute exports"),
        header=1,
        quoted=True,
    )


def _convention_known(columns: list[str], stamp: int, head: Head) -> bool:
    """Return whether the session column is what the earlier system writes for UTC stamps at the end of a bar."""
    if "session" not in columns:
        return "contract" in columns or "vix" in columns
    session = columns.index("session")
    rows = [line.split(",") for line in head.lines[1:]]
    told_ = [(row[stamp][11:16], row[session].strip()) for row in rows if len(row) == len(columns)]
    by_clock = all((_RTH[0] <= clock < _RTH[1]) == (name == "RTH") for clock, name in told_)
    return by_clock or all(name == "RTH" for _, name in told_)


def _refuse_unless_set(place: Place, config: IngestConfig) -> None:
    if option(config.timezone, place, _NAME) and option(config.stamp, place, _NAME):
        return
    raise UnreadableFileError(
        place.shown,
        "stamps whose zone and side of the bar are known",
        "a session column that is not the earlier system's rule (RTH where 09:30 <= UTC stamp < 16:00)",
        remedy="Set ingest.timezone (such as UTC) and ingest.stamp (start or end).",
    )


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
