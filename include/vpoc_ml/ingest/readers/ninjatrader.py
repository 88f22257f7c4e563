"""NinjaTrader minute exports (``ES 03-25.Last.txt``).

No header; ``yyyyMMdd HHmmss;open;high;low;close;volume``, CRLF or LF, prices in points without trailing zeros,
volume in contracts. Timestamps are UTC and mark the END of the bar; the reader turns them into the START.
"""

from __future__ import annotations

from dataclasses import replace

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat

EXPECTED = "a NinjaTrader minute export (yyyyMMdd HHmmss;open;high;low;close;volume)"
_NAME = "ninjatrader"
LAYOUT = Layout(
    ";",
    ("timestamp", "open", "high", "low", "close", "volume"),
    TimestampFormat(("%Y%m%d %H%M%S",), label_side="end"),
    describe_format("NinjaTrader minute export", "UTC", "end"),
)


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, "UTC")
    side = label_side_of(file, _NAME, config, "end")
    note = describe_format("NinjaTrader minute export", zone, side)
    return replace(LAYOUT, timestamp=replace(LAYOUT.timestamp, zone=zone, label_side=side), note=note)


READER = TextReader(_NAME, EXPECTED, lambda head: mostly(head, LAYOUT), _layout)
