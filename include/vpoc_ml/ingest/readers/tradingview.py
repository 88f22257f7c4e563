"""TradingView chart exports (``CME_MINI_ESH2025, 1.csv``).

``time,open,high,low,close,<one column per plot>``: time in Unix seconds, or ISO with its offset; it marks the START
of the bar. Complete files end without a line break. Plot names repeat and may be NaN. There is a Volume column only if
the chart showed the Volume indicator; without it the file is refused, because a profile needs volume. ``ES1!`` is a
continuous series.
"""

from __future__ import annotations

from vpoc_ml.artifacts.schemas import OHLCV, PRICES
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, timestamp_format
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import ISO, Layout

EXPECTED = "a TradingView export (time,open,high,low,close,...,Volume)"
_NAME = "tradingview"


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    columns = text_layout.names(head)
    if "volume" not in columns:
        raise UnreadableFileError(
            file.shown,
            "a Volume column",
            ", ".join(columns)[:80],
            line=1,
            remedy="Show the Volume indicator on the chart and export again.",
        )
    side = label_side_of(file, _NAME, config, "start")
    timestamps = text_layout.values(head, 0)
    formats = ("epoch:s",) if timestamps and timestamps[0].isdigit() else ISO
    timestamp, shown = timestamp_format(file, _NAME, config, timestamps, formats, label_side=side)
    note = describe_format("TradingView export", "Unix seconds (UTC)" if formats != ISO else shown, side)
    fields = text_layout.roles(columns, {"time": "timestamp", **{name: name for name in OHLCV}})
    return Layout(",", fields, timestamp, note, header=1, final_newline_optional=True)


READER = TextReader(_NAME, EXPECTED, lambda head: text_layout.names(head)[:5] == ["time", *PRICES], _layout)
