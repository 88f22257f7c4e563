"""Sierra Chart: text exports of minute bars, and binary intraday files (``ESH25-CME.scid``)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head, open_unpacked
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader, to_minutes
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.ingest.parsing.symbols import contract_in_name
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import TimestampFormat, describe_format, label_side_of, zone_of
from vpoc_ml.market.instruments import Instrument

_TEXT_ROLES = {name: name for name in ("date", "time", *OHLCV)} | {"last": "close"}
_TEXT_FORMATS = ("%Y/%m/%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")


class SierraTextReader(TextReader):
    """Sierra Chart text exports of minute bars.

    ``Date, Time, Open, High, Low, Last, Volume, ...`` / ``2025/12/8, 17:30:00, 4222.0, ...``: a space after the comma,
    month and day not padded, the time perhaps with a fraction. Timestamps mark the START of the bar in the chart's time
    zone. The file does not state that zone: ``ingest.timezone`` is needed. Prices in points, volume in contracts.
    """

    name = "sierra_text"
    expected = "a Sierra Chart text export (Date, Time, Open, High, Low, Last, Volume, ...)"

    def fits(self, head: Head) -> bool:
        return text_layout.names(head)[:7] == ["date", "time", "open", "high", "low", "last", "volume"]

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        zone = zone_of(file, self.name, config, None)
        side = label_side_of(file, self.name, config, "start")
        fields = text_layout.roles(text_layout.names(head), _TEXT_ROLES)
        note = describe_format("Sierra Chart text export", f"{zone} local times (ingest.timezone)", side)
        return Layout(",", fields, TimestampFormat(_TEXT_FORMATS, zone, side), note, header=1)


TEXT_READER = SierraTextReader()


HEADER_BYTES, RECORD_BYTES = 56, 40
RECORD = np.dtype(
    [
        ("timestamp", "<i8"),
        *((name, "<f4") for name in ("open", "high", "low", "close")),
        *((name, "<u4") for name in ("trades", "volume", "bid", "ask")),
    ]
)
_EPOCH_US = int((datetime(1970, 1, 1) - datetime(1899, 12, 30)).total_seconds()) * 1_000_000  # noqa: DTZ001
_RECORDS = 100_000
_SCID_NOTE = "Sierra Chart .scid: microseconds UTC; records are aggregated to bars labelled with their start; contracts"


class ScidReader:
    """Reader of .scid files."""

    name = "sierra_scid"
    expected = "a Sierra Chart .scid file"

    def recognises(self, head: Head) -> bool:
        """Return whether the first bytes are the magic number."""
        return head.raw[:4] == b"SCID"

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return the contract that the file name holds.

        Raises:
            ContractCodeError: it holds none.
            UnreadableFileError: another version of the format.
        """
        _check_header(file, head.raw)
        first = _rows(np.frombuffer(head.raw[HEADER_BYTES : HEADER_BYTES + RECORD_BYTES], RECORD), 1, instrument)
        near = first["ts"].drop_nulls().dt.date().to_list()
        contract = contract_in_name(file.name, near=near[0] if near else None)
        truncation = None
        if file.member is None:
            complete, rest = divmod(max(file.path.stat().st_size - HEADER_BYTES, 0), RECORD_BYTES)
            truncation = _partial(file, complete + 1) if rest else None
        return FileContents((file.source(self.name, contract),), truncation=truncation)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Yield minute bars; ``line`` is the number of the record. Records without a usable price are null.

        Raises:
            MissingInputError, UnreadableFileError: absent, another version, no record, or cut inside a record.
        """
        yield from to_minutes(self._records(source, instrument, config))

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return the sentence about the conversion, for the run's report."""
        return _SCID_NOTE

    def _records(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        file = FileRef(source.path, source.member)
        with open_unpacked(source.path, source.member, ratio=config.expansion_limit) as stream:
            _check_header(file, stream.read(HEADER_BYTES))
            line = 1
            while data := stream.read(_RECORDS * RECORD_BYTES):
                if len(data) % RECORD_BYTES:
                    raise _partial(file, line + len(data) // RECORD_BYTES)
                records = np.frombuffer(data, RECORD)
                yield _rows(records, line, instrument)
                line += len(records)
        if line == 1:
            raise UnreadableFileError(file.shown, self.expected, "no records", line=1)


def _rows(records: np.ndarray, line: int, instrument: Instrument) -> pl.DataFrame:
    """Return records as rows on the tick grid."""
    close = records["close"].astype(np.float64)
    single = (records["trades"] <= 1) | ~_usable(records["open"])
    prices = {"close": close}
    for name in ("open", "high", "low"):
        prices[name] = np.where(single, close, records[name].astype(np.float64))
    timestamp = records["timestamp"] - _EPOCH_US
    good = _usable(records["close"]) & (timestamp > 0) & (timestamp < 4_102_444_800_000_000)
    for name in ("open", "high", "low"):
        good &= np.isfinite(prices[name])
    frame = pl.DataFrame(
        {
            "ts": pl.Series(timestamp).cast(pl.Datetime("us", "UTC")),
            **{name: _on_tick(prices[name], instrument.tick_size) for name in ("open", "high", "low", "close")},
            "volume": records["volume"].astype(np.int64),
            "line": np.arange(line, line + len(records), dtype=np.int64),
            "good": good,
        }
    )
    rows = frame.select(pl.when("good").then(pl.col("ts", *OHLCV)), "line")
    return rows.with_columns(text=pl.format("record {}", "line"))


def _usable(price: np.ndarray) -> np.ndarray:
    """Return where a float32 is a price: 0 and huge negative numbers are markers."""
    return np.asarray(np.isfinite(price) & (price != 0) & (np.abs(price) < 1e9))


def _on_tick(prices: np.ndarray, tick: float) -> np.ndarray:
    """Return doubles for float32 prices: the tick within the float's precision, else the number itself."""
    with np.errstate(invalid="ignore"):
        nearest = np.rint(prices / tick) * tick
        return np.asarray(np.where(np.abs(nearest - prices) <= np.abs(prices) * 2.0**-23, nearest, prices))


def _check_header(file: FileRef, raw: bytes) -> None:
    if len(raw) >= 12 and raw[:4] == b"SCID":
        header, record = struct.unpack("<II", raw[4:12])
        if (header, record) == (HEADER_BYTES, RECORD_BYTES):
            return
        found = f"a header of {header} and records of {record} bytes"
    else:
        found = repr(raw[:4])
    raise UnreadableFileError(file.shown, "SCID, a header of 56 and records of 40 bytes", found, line=1)


def _partial(file: FileRef, record: int) -> UnreadableFileError:
    return UnreadableFileError(
        file.shown,
        "complete records of 40 bytes",
        f"part of record {record}, so the file is cut off or still being written",
        line=record,
        remedy="Deliver the file again once it is complete.",
    )


SCID_READER = ScidReader()
