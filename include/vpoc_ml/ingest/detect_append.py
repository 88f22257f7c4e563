"""Incremental ingest: read only the lines that were appended to a file, and keep the bars that were built before.

The result equals that of reading the whole file. In every unusual case it is None, and ``build_bars`` reads the file.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.schemas import BAD_PRINT
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import VpocError
from vpoc_ml.ingest.bars import BuiltBars, with_indices
from vpoc_ml.ingest.clean import Cleaned, check_side, clean, isolated_prints
from vpoc_ml.ingest.file_streams import HEAD_BYTES, LONGEST_LINE, blocks, is_compressed
from vpoc_ml.ingest.merge import GRID_ROWS, ROW_SCHEMA
from vpoc_ml.ingest.parsing.delimited import TextReader, rows_of
from vpoc_ml.ingest.readers import READERS, data_vendors
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instruments import Instrument

_NEED_WHOLE_FILE = (
    data_vendors.BARCHART_READER.name,
    data_vendors.KIBOT_READER.name,
)  # all lines together decide the order of dates


@dataclass(frozen=True)
class Append:
    """A file whose first ``size`` bytes, ``lines`` lines, are its former content; hashes of old and new content."""

    source: Source
    size: int
    lines: int
    hash_before: str
    hash_now: str


def detect_append(source: Source, size: int) -> Append | None:
    """Return what was appended to a plain text since it had ``size`` bytes; the file is read once.

    None if the format cannot be read incrementally, if the old end was inside a line, or if the old content is within
    the first 64 KiB: such a file may still show another format.
    """
    path, reader = source.path, READERS.get(source.reader)
    if not isinstance(reader, TextReader) or reader.name in _NEED_WHOLE_FILE:
        return None
    if source.member or source.symbol or source.span:
        return None
    if size <= HEAD_BYTES or not path.is_file() or path.stat().st_size <= size or is_compressed(path):
        return None
    digest, lines, left, last = hashlib.sha256(), 0, size, b""
    with path.open("rb") as stream:
        while left and (chunk := stream.read(min(left, LONGEST_LINE))):
            digest.update(chunk)
            lines, left, last = lines + chunk.count(b"\n"), left - len(chunk), chunk[-1:]
        before = digest.hexdigest()
        while chunk := stream.read(LONGEST_LINE):
            digest.update(chunk)
    return None if left or last != b"\n" else Append(source, size, lines, before, digest.hexdigest())


def source_identity(source: Source) -> str:
    """Return what identifies a source across deliveries: file name and reader, without the folder."""
    return source.model_copy(update={"path": Path(source.path.name)}).key


def append_bars(
    before: BuiltBars,
    append: Append,
    contract: Contract,
    instrument: Instrument,
    vix: pl.DataFrame | None,
    config: IngestConfig,
    covariates: Mapping[str, pl.DataFrame] | None = None,
) -> BuiltBars | None:
    """Return ``before`` with the file's new rows, or None if the whole file must be read.

    That is the case if a new row is not a good bar later than the last one before, if a check over all rows could now
    decide otherwise, or if anything is wrong. ``before`` must have been built by the same code and settings, from VIX
    closes that ``vix`` still holds.
    """
    try:
        rows = _new_rows(append, config)
        if rows is None or before.bars.height < GRID_ROWS:
            return None
        cleaned = clean(rows, contract, instrument, config.min_price)
        if cleaned.quarantine.height or cleaned.out_of_order or cleaned.bars.height != rows.height:
            return None
        last, first = before.bars["ts"].max(), cleaned.bars["ts"].min()
        if not (isinstance(first, datetime) and isinstance(last, datetime) and first > last):
            return None
        if config.bad_prints and _may_hold_prints(before, cleaned):
            return None
        spanned = pl.concat([before.bars.head(1).select(cleaned.bars.columns), cleaned.bars])
        new = with_indices(cleaned.bars, spanned, vix, covariates or {}, instrument.calendar)
        bars = pl.concat([before.bars, new.select(before.bars.columns)], rechunk=True)
        check_side(Cleaned(bars, before.quarantine, 0), contract, instrument, str(append.source.path))
    except (VpocError, OSError, pl.exceptions.PolarsError):
        return None  # reading the whole file raises the error with its line
    return BuiltBars(
        bars, before.quarantine, before.rows_in + rows.height, before.reasons, before.notes, before.left_out
    )


def _new_rows(append: Append, config: IngestConfig) -> pl.DataFrame | None:
    """Return the rows after the old end; None if the format needs the whole file or the last line is not complete."""
    source, reader = append.source, READERS[append.source.reader]
    assert isinstance(reader, TextReader)
    layout = reader.layout_of(source, config)
    if layout.trades or layout.footer is not None or "symbol" in layout.fields:
        return None
    with Path(source.path).open("rb") as stream:
        found = list(blocks(stream, offset=append.size, line=append.lines + 1, stop=sys.maxsize))
    if not found or not found[-1].ended:
        return None
    rows = pl.concat([rows_of(block, layout) for block in found])
    return rows.select(pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items() if name != "file")


def _may_hold_prints(before: BuiltBars, cleaned: Cleaned) -> bool:
    """Return whether bars around the old end, or new ones, are or were isolated bad prints.

    The check of a bar reads the bars around it and the rest of its session, so new rows can change the result for the
    last session before. One more session before that gives its first bars their neighbours.
    """
    sessions = before.bars["session"].unique().sort().tail(2)
    around = before.bars.filter(pl.col("session") >= sessions[0])
    bars = pl.concat([around.select(cleaned.bars.columns), cleaned.bars])
    known = before.quarantine.filter((pl.col("reason") == BAD_PRINT) & (pl.col("ts") >= bars["ts"][0]))
    return known.height > 0 or bars.filter(isolated_prints()).height > 0
