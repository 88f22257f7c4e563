"""Bars of a file that only grew: the lines after its old end are read, the rest is taken as it was built before.

The result is that of reading the whole file, or None: whatever is unusual is left to ``build_bars``.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import VpocError
from vpoc_ml.ingest.bad_prints import BAD_PRINT, isolated_prints
from vpoc_ml.ingest.bars import BuiltBars, with_indices
from vpoc_ml.ingest.clean import Cleaned, clean
from vpoc_ml.ingest.convention import check_side
from vpoc_ml.ingest.file_streams import HEAD_BYTES, LONGEST_LINE, blocks, packed
from vpoc_ml.ingest.merge import GRID_ROWS, ROW_SCHEMA
from vpoc_ml.ingest.parsing.delimited import TextReader, rows_of
from vpoc_ml.ingest.readers import READERS, barchart, kibot
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instruments import Instrument

_WHOLE = (barchart.READER.name, kibot.READER.name)  # they judge the order of dates by all of a file's lines


@dataclass(frozen=True)
class Append:
    """A file that begins with the ``size`` bytes, ``lines`` lines, it had before; hashes of the old and the new."""

    source: Source
    size: int
    lines: int
    before: str
    now: str


def detect_append(source: Source, size: int) -> Append | None:
    """Return how a plain text grew since it had ``size`` bytes, read once; None for what cannot be appended to.

    Files within the first 64 KiB are left out, for they may still show another format.
    """
    path, reader = source.path, READERS.get(source.reader)
    if not isinstance(reader, TextReader) or reader.name in _WHOLE or source.member or source.symbol or source.span:
        return None
    if size <= HEAD_BYTES or not path.is_file() or path.stat().st_size <= size or packed(path):
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
    """Return what must stay for a file to be the same one that grew: its name, and how it is read."""
    return source.model_copy(update={"path": Path(source.path.name)}).key


def append_bars(
    before: BuiltBars,
    grown: Append,
    contract: Contract,
    instrument: Instrument,
    vix: pl.DataFrame | None,
    config: IngestConfig,
    covariates: Mapping[str, pl.DataFrame] | None = None,
) -> BuiltBars | None:
    """Return ``before`` with the file's new rows, or None where the whole file must be read.

    That is where a new row is no good bar after the last one before, where a check that looks at all rows might now
    decide otherwise, and where anything is wrong at all. ``before`` must have been built by the same code and
    settings, from closes that ``vix`` still holds.
    """
    try:
        rows = _new_rows(grown, config)
        if rows is None or before.bars.height < GRID_ROWS:
            return None
        cleaned = clean(rows, contract, instrument, config.min_price)
        if not _continues(before, rows, cleaned):
            return None
        if config.bad_prints and _may_hold_prints(before, cleaned):
            return None
        spanned = pl.concat([before.bars.head(1).select(cleaned.bars.columns), cleaned.bars])
        new = with_indices(cleaned.bars, spanned, vix, covariates or {}, instrument.calendar)
        bars = pl.concat([before.bars, new.select(before.bars.columns)], rechunk=True)
        check_side(Cleaned(bars, before.quarantine, 0), contract, instrument, str(grown.source.path))
    except (VpocError, OSError, pl.exceptions.PolarsError):
        return None  # reading the whole file raises what there is to raise
    return BuiltBars(
        bars, before.quarantine, before.rows_in + rows.height, before.reasons, before.notes, before.left_out
    )


def _new_rows(grown: Append, config: IngestConfig) -> pl.DataFrame | None:
    """Return the rows after the old end; None where the format needs the whole file."""
    source, reader = grown.source, READERS[grown.source.reader]
    assert isinstance(reader, TextReader)
    layout = reader.layout_of(source, config)
    if layout.trades or layout.footer is not None or "symbol" in layout.fields:
        return None
    with Path(source.path).open("rb") as stream:
        found = list(blocks(stream, offset=grown.size, line=grown.lines + 1, stop=sys.maxsize))
    if not found or not found[-1].ended:
        return None
    rows = pl.concat([rows_of(block, layout) for block in found])
    return rows.select(pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items() if name != "file")


def _continues(before: BuiltBars, rows: pl.DataFrame, cleaned: Cleaned) -> bool:
    """Return whether every new row is a bar, in order, after the last one before."""
    last, first = before.bars["ts"].max(), cleaned.bars["ts"].min()
    in_order = not cleaned.quarantine.height and not cleaned.out_of_order and cleaned.bars.height == rows.height
    return in_order and isinstance(first, datetime) and isinstance(last, datetime) and first > last


def _may_hold_prints(before: BuiltBars, cleaned: Cleaned) -> bool:
    """Return whether the bars around the old end, or the new ones, are or were taken for isolated bad prints.

    A bar is judged by those around it and by the rest of its session, so new rows can change the verdict on the last
    session before; the sessions before that give its first bars their neighbours.
    """
    sessions = before.bars["session"].unique().sort().tail(2)
    around = before.bars.filter(pl.col("session") >= sessions[0])
    bars = pl.concat([around.select(cleaned.bars.columns), cleaned.bars])
    known = before.quarantine.filter((pl.col("reason") == BAD_PRINT) & (pl.col("ts") >= bars["ts"][0]))
    return known.height > 0 or bars.filter(isolated_prints()).height > 0
