"""Barchart intraday exports (``esh25_intraday-1min_historical-data.csv``).

``Time,Open,High,Low,Latest,Change,%Change,Volume``, newest first, thousands separators inside quotes, and a last
line ``"Downloaded from Barchart.com as of 05-05-2026 07:59am CDT"``. Timestamps mark the START of the bar in the zone
of that line; without it ``ingest.timezone`` is needed. Prices in points, volume in contracts.
"""

from __future__ import annotations

import re

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head, last_line
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat
from vpoc_ml.ingest.parsing.time_text import order_of

EXPECTED = "a Barchart export (Time,Open,High,Low,Latest,Change,%Change,Volume)"
_NAME = "barchart"
FOOTER = r'^"?Downloaded from Barchart'
_ZONES = {"C": "America/Chicago", "E": "America/New_York"}
_ROLES = {name: name for name in ("open", "high", "low", "volume")}
_ROLES |= {"time": "timestamp", "date": "timestamp", "latest": "close", "last": "close"}


def _recognise(head: Head) -> bool:
    columns = text_layout.names(head)
    return (
        columns[:4] == ["time", "open", "high", "low"] and "volume" in columns and bool({"latest", "last"} & {*columns})
    )


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    foot = re.search(r"Downloaded from Barchart.* ([CE])[DS]T", last_line(file.path, file.member))
    zone = zone_of(file, _NAME, config, _ZONES[foot[1]] if foot else None)
    side = label_side_of(file, _NAME, config, "start")
    day = order_of(file, config) if "/" in text_layout.value(head, 0) else "%Y-%m-%d"
    note = describe_format("Barchart export, newest first", f"{zone} local times", side)
    return Layout(
        ",",
        text_layout.roles(text_layout.names(head), _ROLES),
        TimestampFormat((f"{day} %H:%M", f"{day} %H:%M:%S"), zone, side),
        note,
        header=1,
        footer=FOOTER,
        quoted=True,
    )


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
