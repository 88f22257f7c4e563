"""TradingView chart exports (``CME_MINI_ESH2025, 1.csv``).

``time,open,high,low,close,<one column per plot>``: time in Unix seconds, or ISO with its offset; it marks the START
of the bar. Plot names repeat and may be NaN. There is a Volume column only if the chart showed the Volume
indicator; without it the file is refused, because a profile needs volume. ``ES1!`` is a continuous series.
"""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.readers import header
from vpoc_ml.ingest.readers.base import Place
from vpoc_ml.ingest.readers.delimited import TextReader
from vpoc_ml.ingest.readers.layout import PRICES, VALUES, Layout, Stamp
from vpoc_ml.ingest.readers.options import ends, told, zone_of
from vpoc_ml.ingest.streams import Head

EXPECTED = "a TradingView export (time,open,high,low,close,...,Volume)"
_NAME = "tradingview"
_WITH_OFFSET = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%SZ")
_NAIVE = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")


def _recognise(head: Head) -> bool:
    return header.names(head)[:5] == ["time", *PRICES]


def _layout(place: Place, head: Head, config: IngestConfig) -> Layout:
    columns = header.names(head)
    if "volume" not in columns:
        raise UnreadableFileError(
            place.shown,
            "a Volume column",
            ", ".join(columns)[:80],
            line=1,
            remedy="Show the Volume indicator on the chart and export again.",
        )
    end = ends(place, _NAME, config, default=False)
    formats, zone, shown = _clock(place, header.value(head, 0), config)
    note = told(shown, end=end, what="TradingView export")
    fields = header.roles(columns, {"time": "stamp", **{name: name for name in VALUES}})
    return Layout(",", fields, Stamp(formats, zone, end), note, header=1)


def _clock(place: Place, first: str, config: IngestConfig) -> tuple[tuple[str, ...], str, str]:
    """Return formats, zone and its words, judged by the first stamp."""
    if first.isdigit():
        return ("epoch:s",), "UTC", "Unix seconds (UTC)"
    if first.endswith("Z") or first[-6:-5] in ("+", "-"):
        return _WITH_OFFSET, "UTC", "with their offset"
    zone = zone_of(place, _NAME, config, None)
    return _NAIVE, zone, f"{zone} local times (ingest.timezone)"


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
