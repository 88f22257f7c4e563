"""TradingView chart exports (``CME_MINI_ESH2025, 1.csv``).

``time,open,high,low,close,<one column per plot>``: time in Unix seconds, or ISO with its offset; it marks the START
of the bar. Whole files end without a line break. Plot names repeat and may be NaN. There is a Volume column only if
the chart showed the Volume indicator; without it the file is refused, because a profile needs volume. ``ES1!`` is a
continuous series.
"""

from __future__ import annotations

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import header
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import clock, ends, told
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import ISO, PRICES, VALUES, Layout

EXPECTED = "a TradingView export (time,open,high,low,close,...,Volume)"
_NAME = "tradingview"


def _recognise(head: Head) -> bool:
    return header.names(head)[:5] == ["time", *PRICES]


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    columns = header.names(head)
    if "volume" not in columns:
        raise UnreadableFileError(
            file.shown,
            "a Volume column",
            ", ".join(columns)[:80],
            line=1,
            remedy="Show the Volume indicator on the chart and export again.",
        )
    end = ends(file, _NAME, config, default=False)
    stamps = header.values(head, 0)
    formats = ("epoch:s",) if stamps and stamps[0].isdigit() else ISO
    stamp, shown = clock(file, _NAME, config, stamps, formats, end=end)
    note = told("Unix seconds (UTC)" if formats != ISO else shown, end=end, what="TradingView export")
    fields = header.roles(columns, {"time": "stamp", **{name: name for name in VALUES}})
    return Layout(",", fields, stamp, note, header=1, unbroken=True)


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
