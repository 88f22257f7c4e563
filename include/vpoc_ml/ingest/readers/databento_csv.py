"""Databento ``ohlcv-1m`` CSV, pretty or raw, of one or many contracts.

Pretty: ``2020-12-28T00:00:00.000000000Z,33,1,5482,3702.750000000,...,306,ESH1``; raw: nanoseconds since 1970 and
prices times 1e9. Timestamps are UTC and mark the START of the bar; volume in contracts; minutes without trades are
absent; rtype 33 is one minute. With a symbol column the file is split by symbol; calendar spreads
(``ESM6-ESU6``) of a parent request are set apart. Without one it must hold one instrument_id.
"""

from __future__ import annotations

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import describe_format
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat

EXPECTED = "a Databento ohlcv-1m CSV (ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume[,symbol])"
_NAME = "databento_csv"
_MINUTE = "33"
_NEEDED = {"ts_event", "rtype", "instrument_id", *OHLCV}


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    columns = text_layout.names(head)
    rtype = text_layout.value(head, text_layout.position(head, "rtype", file))
    if rtype and rtype != _MINUTE:
        raise UnreadableFileError(
            file.shown, "bars of one minute (rtype 33)", f"rtype {rtype[:20]}", line=2, remedy="Request ohlcv-1m."
        )
    raw_time = text_layout.value(head, text_layout.position(head, "ts_event", file)).isdigit()
    raw_price = "." not in text_layout.value(head, text_layout.position(head, "open", file))
    symbol = "symbol" if "symbol" in columns else "instrument_id"
    wanted = {"ts_event": "timestamp", symbol: "symbol", **{name: name for name in OHLCV}}
    return Layout(
        ",",
        text_layout.roles(columns, wanted),
        TimestampFormat(("epoch:ns",) if raw_time else ("%Y-%m-%dT%H:%M:%S%.fZ",)),
        describe_format("Databento ohlcv-1m CSV", "UTC", "start"),
        header=1,
        divisor=1e9 if raw_price else 1.0,
        numbered="symbol" not in columns,
    )


READER = TextReader(_NAME, EXPECTED, lambda head: set(text_layout.names(head)) >= _NEEDED, _layout)
