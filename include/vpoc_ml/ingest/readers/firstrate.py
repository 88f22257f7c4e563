"""FirstRate Data intraday files of one contract (``ESH25_1min.txt``).

``2023-03-08 00:00:00,4024.75,4025.50,4024.75,4025.00,307``, with or without a header. Timestamps are naive
US Eastern and mark the START of the bar; prices in points, volume in contracts; minutes without trades are absent.
Continuous and adjusted series are refused: by their name, and by prices off the tick grid.
"""

from __future__ import annotations

from dataclasses import replace

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat

EXPECTED = "a FirstRate Data minute file (yyyy-MM-dd HH:mm:ss,open,high,low,close,volume)"
_NAME = "firstrate"
_ZONE = "America/New_York"
_HEADERS = (["timestamp", *OHLCV], ["datetime", *OHLCV])
_LAYOUT = Layout(",", ("timestamp", *OHLCV), TimestampFormat(("%Y-%m-%d %H:%M:%S",), _ZONE), "")


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, _ZONE)
    side = label_side_of(file, _NAME, config, "start")
    note = describe_format("FirstRate Data minute file", f"{zone} local times", side)
    timestamp = replace(_LAYOUT.timestamp, zone=zone, label_side=side)
    return replace(_LAYOUT, timestamp=timestamp, note=note, header=int(text_layout.names(head) in _HEADERS))


READER = TextReader(
    _NAME,
    EXPECTED,
    lambda head: mostly(head, replace(_LAYOUT, header=int(text_layout.names(head) in _HEADERS))),
    _layout,
)
