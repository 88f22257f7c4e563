"""NinjaTrader tick exports (``ES 03-25.Last.txt``), aggregated to minute bars.

No header; ``yyyyMMdd HHmmss fffffff;last;bid;ask;volume`` (seven digits of a second), one trade per line, price
in points, volume in contracts. Timestamps are UTC, the moment of the trade; a bar holds the trades of
[minute, minute + 60 s).
"""

from __future__ import annotations

import re
from dataclasses import replace

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly_match
from vpoc_ml.ingest.parsing.file_settings import zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat

EXPECTED = "a NinjaTrader tick export (yyyyMMdd HHmmss fffffff;last;bid;ask;volume)"
_TICK_NAME = "ninjatrader_tick"
_NOTE = "NinjaTrader tick export: trades with {zone} timestamps are aggregated to bars labelled with their start"
_LINE = re.compile(r"\d{8} \d{6} \d{7};-?[\d.]+;-?[\d.]+;-?[\d.]+;\d+")
LAYOUT = Layout(";", ("timestamp", "price", "", "", "volume"), TimestampFormat(("%Y%m%d %H%M%S",), length=15), _NOTE)


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _TICK_NAME, config, "UTC")
    return replace(LAYOUT, timestamp=replace(LAYOUT.timestamp, zone=zone), note=_NOTE.format(zone=zone))


READER = TextReader(_TICK_NAME, EXPECTED, lambda head: mostly_match(head, _LINE), _layout)
