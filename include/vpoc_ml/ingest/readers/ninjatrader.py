"""NinjaTrader minute exports (``ES 03-25.Last.txt``).

No header; ``yyyyMMdd HHmmss;open;high;low;close;volume``, CRLF or LF, prices in points without trailing zeros,
volume in contracts. Stamps are UTC and mark the END of the bar; the reader turns them into the START.
"""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.readers.base import Place
from vpoc_ml.ingest.readers.delimited import TextReader, mostly
from vpoc_ml.ingest.readers.layout import Layout, Stamp
from vpoc_ml.ingest.streams import Head

NOTE = "NinjaTrader minute export: stamps are UTC and mark the end of a bar; moved back 60 s to its start"
EXPECTED = "a NinjaTrader minute export (yyyyMMdd HHmmss;open;high;low;close;volume)"
LAYOUT = Layout(";", ("stamp", "open", "high", "low", "close", "volume"), Stamp(("%Y%m%d %H%M%S",), end=True), NOTE)


def _layout(place: Place, head: Head, config: IngestConfig) -> Layout:
    return LAYOUT


READER = TextReader("ninjatrader", EXPECTED, lambda head: mostly(head, LAYOUT), _layout)
