"""Kibot minute files (``ESH25.txt``).

No header; ``mm/dd/yyyy,hh:mm,open,high,low,close,volume``. Stamps are naive US Eastern and mark the START of the bar;
prices in points, volume in contracts. A file whose every date could be day first as well is refused.
"""

from __future__ import annotations

import re

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.date_order import order_of
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import ends, told, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import VALUES, Layout, TimestampFormat

EXPECTED = "a Kibot minute file (mm/dd/yyyy,hh:mm,open,high,low,close,volume)"
_NAME = "kibot"
_ZONE = "America/New_York"
_LINE = re.compile(r"\d{1,2}/\d{1,2}/\d{4},\d{1,2}:\d{2}(:\d{2})?(,-?[\d.]+){4},\d+")


def _recognise(head: Head) -> bool:
    lines = head.lines[:20]
    return 2 * sum(bool(_LINE.fullmatch(line)) for line in lines) > len(lines)


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, _ZONE)
    end = ends(file, _NAME, config, default=False)
    day = order_of(file, config)
    note = told(f"{zone} local times", end=end, what="Kibot minute file")
    formats = (f"{day} %H:%M", f"{day} %H:%M:%S")
    return Layout(",", ("date", "time", *VALUES), TimestampFormat(formats, zone, end), note)


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
