"""Sierra Chart text exports of minute bars.

``Date, Time, Open, High, Low, Last, Volume, ...`` / ``2025/12/8, 17:30:00, 4222.0, ...``: a space after the comma,
month and day not padded, the time perhaps with a fraction. Timestamps mark the START of the bar in the chart's time
zone. The file does not state that zone: ``ingest.timezone`` is needed. Prices in points, volume in contracts.
"""

from __future__ import annotations

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat

EXPECTED = "a Sierra Chart text export (Date, Time, Open, High, Low, Last, Volume, ...)"
_NAME = "sierra_text"
_ROLES = {name: name for name in ("date", "time", *OHLCV)} | {"last": "close"}
_FORMATS = ("%Y/%m/%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, None)
    side = label_side_of(file, _NAME, config, "start")
    fields = text_layout.roles(text_layout.names(head), _ROLES)
    note = describe_format("Sierra Chart text export", f"{zone} local times (ingest.timezone)", side)
    return Layout(",", fields, TimestampFormat(_FORMATS, zone, side), note, header=1)


READER = TextReader(
    _NAME,
    EXPECTED,
    lambda head: text_layout.names(head)[:7] == ["date", "time", "open", "high", "low", "last", "volume"],
    _layout,
)
