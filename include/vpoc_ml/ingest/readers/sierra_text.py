"""Sierra Chart text exports of minute bars.

``Date, Time, Open, High, Low, Last, Volume, ...`` / ``2025/12/8, 17:30:00, 4222.0, ...``: a space after the comma,
month and day not padded, the time perhaps with a fraction. Stamps mark the START of the bar, in the chart's time
zone, which the file does not tell: ``ingest.timezone`` must. Prices in points, volume in contracts.
"""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import header
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import ends, told, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import VALUES, Layout, TimestampFormat

EXPECTED = "a Sierra Chart text export (Date, Time, Open, High, Low, Last, Volume, ...)"
_NAME = "sierra_text"
_ROLES = {name: name for name in ("date", "time", *VALUES)} | {"last": "close"}
_FORMATS = ("%Y/%m/%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")


def _recognise(head: Head) -> bool:
    return header.names(head)[:7] == ["date", "time", "open", "high", "low", "last", "volume"]


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    zone = zone_of(file, _NAME, config, None)
    end = ends(file, _NAME, config, default=False)
    fields = header.roles(header.names(head), _ROLES)
    note = told(f"{zone} local times (ingest.timezone)", end=end, what="Sierra Chart text export")
    return Layout(",", fields, TimestampFormat(_FORMATS, zone, end), note, header=1)


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
