"""Databento ``ohlcv-1m`` files of one or many contracts: CSV, and DBN (``.dbn``, ``.dbn.zst``)."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV, PRICES
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import Head, is_gzip, open_unpacked
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.ingest.parsing.symbols import contents_by_month, rows_of_symbol
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import TimestampFormat, describe_format
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument

_MINUTE = "33"
_NEEDED = {"ts_event", "rtype", "instrument_id", *OHLCV}


class DatabentoCsvReader(TextReader):
    """Databento ``ohlcv-1m`` CSV, pretty or raw, of one or many contracts.

    Pretty: ``2020-12-28T00:00:00.000000000Z,33,1,5482,3702.750000000,...,306,ESH1``; raw: nanoseconds since 1970 and
    prices times 1e9. Timestamps are UTC and mark the START of the bar; volume in contracts; minutes without trades are
    absent; rtype 33 is one minute. With a symbol column the file is split by symbol; calendar spreads
    (``ESM6-ESU6``) of a parent request are set apart. Without one it must hold one instrument_id.
    """

    name = "databento_csv"
    expected = (
        "a Databento ohlcv-1m CSV (ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume[,symbol])"
    )

    def fits(self, head: Head) -> bool:
        return set(text_layout.names(head)) >= _NEEDED

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
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


CSV_READER = DatabentoCsvReader()


_DBN = b"DBN"
_RECORD_BYTES = 56
_CHUNK = 1 << 20
_RECORDS = 100_000
_UNDEFINED = 2**63 - 1


class DbnReader:
    """Reader of DBN files through Databento's own package."""

    name = "databento_dbn"
    expected = "a Databento DBN file of schema ohlcv-1m"

    def recognises(self, head: Head) -> bool:
        """Return whether the first bytes are the magic number."""
        return head.raw[:3] == _DBN

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return a source for each contract of the file.

        Raises:
            MissingInputError: the package is not installed.
            ContractCodeError, UnreadableFileError: no contract, another schema, or cut off.
        """
        counted: dict[tuple[str, date], int] = {}
        for batch in self._rows(file, config):
            months = batch.drop_nulls("symbol").group_by("symbol", month=pl.col("ts").dt.date().dt.month_start()).len()
            for symbol, month, rows in months.iter_rows():
                counted[symbol, month] = counted.get((symbol, month), 0) + rows
        return contents_by_month(file, self.name, counted)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield the rows of the source's symbol.

        Raises:
            MissingInputError, UnreadableFileError: as ``contents``.
        """
        rows = self._rows(FileRef(source.path, source.member), config)
        yield from rows_of_symbol(rows, str(source.symbol), parse_contract(source.contract), "")

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return the sentence about the conversion, for the run's report."""
        return describe_format("Databento DBN ohlcv-1m", "UTC", "start")

    def _rows(self, file: FileRef, config: IngestConfig) -> Iterator[pl.DataFrame]:
        try:
            databento = importlib.import_module("databento")
        except ImportError as error:
            raise MissingInputError(
                file.shown, "the package databento to read DBN", "Install it with pip install 'vpoc-ml[databento]'."
            ) from error
        dbn, zstandard = importlib.import_module("databento_dbn"), importlib.import_module("zstandard")
        of_package = (ValueError, KeyError, TypeError, EOFError, RuntimeError, dbn.DBNError, zstandard.ZstdError)
        try:
            _check_whole(file, config)
            if file.member is None and not is_gzip(file.path):
                store = databento.DBNStore.from_file(file.path)
            else:  # the content of a zip or gzip is unpacked into memory
                with open_unpacked(file.path, file.member, ratio=config.expansion_limit) as stream:
                    store = databento.DBNStore.from_bytes(io.BytesIO(stream.read()))
            if str(store.schema) != "ohlcv-1m":
                raise UnreadableFileError(file.shown, "schema ohlcv-1m", str(store.schema), remedy="Request ohlcv-1m.")
            line = 1
            for frame in store.to_df(price_type="fixed", pretty_ts=False, count=_RECORDS):
                yield _typed(frame.reset_index(), line)
                line += len(frame)
        except of_package as error:  # what the package raises on an incomplete file
            raise UnreadableFileError(
                file.shown, self.expected, f"{error} (cut off or damaged)"[:300], remedy="Deliver the file again."
            ) from error


def _typed(frame: Any, line: int) -> pl.DataFrame:
    columns = {name: frame[name].to_numpy() for name in ("ts_event", *OHLCV)}
    rows = pl.DataFrame(columns).with_columns(symbol=pl.Series(frame["symbol"].tolist(), dtype=pl.String))
    number = pl.int_range(line, line + pl.len(), dtype=pl.Int64)
    return rows.select(
        (pl.col("ts_event").cast(pl.Int64) // 1000).cast(pl.Datetime("us", "UTC")).alias("ts"),
        *(pl.when(pl.col(name) != _UNDEFINED).then(pl.col(name) / 1e9).alias(name) for name in PRICES),
        pl.col("volume").cast(pl.Int64),
        number.alias("line"),
        pl.format("record {}", number).alias("text"),
        "symbol",
    )


def _check_whole(file: FileRef, config: IngestConfig) -> None:
    """Refuse a stream without its end or with part of a record: the decoder would silently stop early."""
    head, size = b"", 0
    with open_unpacked(file.path, file.member, ratio=config.expansion_limit) as stream:
        while data := stream.read(_CHUNK):
            head = head or data[:8]
            size += len(data)
    if head[:3] != _DBN or len(head) < 8:
        raise EOFError("no DBN header")
    if (size - 8 - int.from_bytes(head[4:8], "little")) % _RECORD_BYTES:
        raise EOFError("the last record is not complete")


DBN_READER = DbnReader()
