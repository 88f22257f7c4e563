"""Interactive Brokers bars as ib_insync saves them.

``date,open,high,low,close,volume,average,barCount`` (an index column may come first) /
``2025-11-07 15:59:00-05:00,670.88,671.08,670.6,670.91,1562052.0,670.852,12248``. Timestamps mark the START of the
bar and carry the exchange's offset or zone (``20251107 15:59:00 US/Eastern``); those without need ``ingest.timezone``.
Volume is contracts of a future, as a float.
"""

from __future__ import annotations

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, timestamp_format
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import ISO, Layout

EXPECTED = "Interactive Brokers bars (date,open,high,low,close,volume,average,barCount)"
_NAME = "interactive_brokers"
_COLUMNS = ["date", *OHLCV, "average", "barcount"]
_FORMATS = (*ISO, "%Y%m%d %H:%M:%S", "%Y%m%d  %H:%M:%S")


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    columns = text_layout.names(head)
    side = label_side_of(file, _NAME, config, "start")
    timestamps = text_layout.values(head, text_layout.position(head, "date", file))
    timestamp, shown = timestamp_format(file, _NAME, config, timestamps, _FORMATS, label_side=side)
    return Layout(
        ",",
        text_layout.roles(columns, {"date": "timestamp", **{name: name for name in OHLCV}}),
        timestamp,
        describe_format("Interactive Brokers bars", shown, side),
        header=1,
    )


READER = TextReader(_NAME, EXPECTED, lambda head: text_layout.names(head)[-8:] == _COLUMNS, _layout)
