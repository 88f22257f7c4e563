"""Build canonical bars and a quarantine from the vendor files of one contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.schemas import OUTSIDE_HOURS
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import QuarantineLimitError, UnreviewedSessionsError
from vpoc_ml.ingest.clean import check_side, check_unadjusted, check_zone, clean
from vpoc_ml.ingest.discover import choose_reader
from vpoc_ml.ingest.file_streams import read_head
from vpoc_ml.ingest.merge import merge
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.row_filters import reviewed_rows, with_text
from vpoc_ml.ingest.vix.vix_closes import check_coverage, join_index, join_vix
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import reviewed_range
from vpoc_ml.market.instruments import Instrument


@dataclass(frozen=True)
class BuiltBars:
    """Bars and quarantine of a contract: ``rows_in == len(bars) + len(quarantine)``, always.

    ``reasons`` counts the quarantined rows by reason. Rows that several files deliver identically are one row of
    ``rows_in``. Rows of sessions whose hours were not reviewed are not in ``rows_in``; ``left_out`` is a sentence with
    their number, empty if there are none.
    """

    bars: pl.DataFrame
    quarantine: pl.DataFrame
    rows_in: int
    reasons: dict[str, int]
    notes: list[str]
    left_out: str = ""


def build_bars(
    sources: Sequence[Source] | Path,
    contract: Contract,
    instrument: Instrument,
    vix: pl.DataFrame | None,
    config: IngestConfig,
    covariates: Mapping[str, pl.DataFrame] | None = None,
    as_of: datetime | None = None,
) -> BuiltBars:
    """Read a contract's sources and return its bars with session, rth flag and VIX.

    Args:
        sources: sources of the contract, or the path of one file.
        contract: the contract.
        instrument: its instrument.
        vix: values as ``read_vix`` returns them; None: the column ``vix`` is null.
        config: settings of ingestion.
        covariates: values of further indices by column name; each is a column after ``vix``.
        as_of: aware; only rows of bars that had ended then are read, as if the files had been delivered at that time.

    Returns:
        ``bars`` as ``artifacts.schemas.BARS``, sorted by unique ts, START of bar, UTC; ``quarantine`` as
        ``artifacts.schemas.QUARANTINE``, sorted by file and line. ``notes`` state conversions and repeated deliveries,
        for the run's report.

    Raises:
        UnreadableFileError: not the expected format, cut off, two files that conflict, adjusted prices, or timestamps
            of another zone or label side than the format's.
        QuarantineLimitError: a larger share of bad rows than ``config.quarantine_limit``, or no good row.
        VixCoverageError: an index that does not cover the bars.
        UnreviewedSessionsError: no row is of a session whose hours were reviewed.
    """
    if isinstance(sources, Path):
        file = FileRef(sources)
        sources = [file.source(choose_reader(file, read_head(sources), config).name, contract)]
    merged = merge(sources, instrument, config, as_of)
    first = merged.sources[0]
    where = str(first.path) if len(merged.sources) == 1 else f"{len(merged.sources)} files of {first.contract}"
    rows, left_out = reviewed_rows(merged.rows, contract, instrument)
    if left_out and rows.is_empty():
        raise UnreviewedSessionsError(where, instrument.calendar, *reviewed_range(instrument.calendar))
    merged = replace(merged, rows=rows)  # frees the rows that are left out
    cleaned = clean(merged.rows, contract, instrument, config.min_price, config.bad_prints)
    counts = cleaned.quarantine.group_by("reason").len().sort("len", "reason", descending=[True, False])
    reasons = dict(counts.iter_rows())
    bad, rows_in = cleaned.quarantine.height, merged.rows.height
    check_side(cleaned, contract, instrument, where)
    check_unadjusted(cleaned, rows_in, instrument, where)
    if bad > config.quarantine_limit * rows_in or not cleaned.bars.height:
        if OUTSIDE_HOURS in reasons:
            check_zone(merged.rows, contract, instrument, where)
        raise QuarantineLimitError(where, bad, rows_in, config.quarantine_limit, reasons)
    bars = with_indices(cleaned.bars, cleaned.bars, vix, covariates or {}, instrument.calendar)
    quarantine = with_text(cleaned.quarantine, merged.sources, instrument, config)
    notes = list(merged.notes)
    if cleaned.out_of_order:
        notes.append(f"{cleaned.out_of_order} rows were out of order and have been sorted")
    return BuiltBars(bars, quarantine, rows_in, reasons, notes, left_out)


def with_indices(
    bars: pl.DataFrame,
    spanned: pl.DataFrame,
    vix: pl.DataFrame | None,
    covariates: Mapping[str, pl.DataFrame],
    calendar: str,
) -> pl.DataFrame:
    """Return ``bars`` with the VIX and the covariates as known before each bar; they must cover ``spanned``.

    Raises:
        VixCoverageError: an index that does not.
    """
    if vix is not None:
        check_coverage(spanned, vix, calendar)
    joined = join_vix(bars, vix)
    for column, values in covariates.items():
        check_coverage(spanned, values, calendar, path=f"the {column.upper()} file", name=column.upper())
        joined = join_index(joined, values, column)
    return joined
