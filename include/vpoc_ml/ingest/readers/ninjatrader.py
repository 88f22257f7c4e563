"""NinjaTrader minute exports (``ES 03-25.Last.txt``).

No header; ``yyyyMMdd HHmmss;open;high;low;close;volume``, CRLF or LF, prices in points without trailing zeros,
volume in contracts. Stamps are UTC and mark the END of the bar; the reader turns them into the START.
"""

from __future__ import annotations

from dataclasses import replace

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly
from vpoc_ml.ingest.parsing.file_settings import ends, told, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat

EXPECTED = "a NinjaTrader minute export (yyyyMMdd HHmmss;open;high;low;close;volume)"
_NAME = "ninjatrader"
_WHAT = "NinjaTrader minute export"
NOTE = told("UTC", end=True, what=_WHAT)
LAYOUT = Layout(
    ";", ("stamp", "open", "high", "low", "close", "volume"), TimestampFormat(("%Y%m%d %H%M%S",), end=True), NOTE
)


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, "UTC")
    end = ends(file, _NAME, config, default=True)
    return replace(LAYOUT, stamp=replace(LAYOUT.stamp, zone=zone, end=end), note=told(zone, end=end, what=_WHAT))


READER = TextReader(_NAME, EXPECTED, lambda head: mostly(head, LAYOUT), _layout)
