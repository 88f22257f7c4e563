"""Kibot minute files (``ESH25.txt``).

No header; ``mm/dd/yyyy,hh:mm,open,high,low,close,volume``. Timestamps are naive US Eastern and mark the START of the
bar; prices in points, volume in contracts. A file in which no day is above 12 does not show the order of month and day
and is refused.
"""

from __future__ import annotations

import re

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly_match
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat
from vpoc_ml.ingest.parsing.time_text import order_of

EXPECTED = "a Kibot minute file (mm/dd/yyyy,hh:mm,open,high,low,close,volume)"
_NAME = "kibot"
_ZONE = "America/New_York"
_LINE = re.compile(r"\d{1,2}/\d{1,2}/\d{4},\d{1,2}:\d{2}(:\d{2})?(,-?[\d.]+){4},\d+")


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, _ZONE)
    side = label_side_of(file, _NAME, config, "start")
    day = order_of(file, config)
    note = describe_format("Kibot minute file", f"{zone} local times", side)
    formats = (f"{day} %H:%M", f"{day} %H:%M:%S")
    return Layout(",", ("date", "time", *OHLCV), TimestampFormat(formats, zone, side), note)


READER = TextReader(_NAME, EXPECTED, lambda head: mostly_match(head, _LINE), _layout)
