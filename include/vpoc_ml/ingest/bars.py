"""From the vendor files of one contract to canonical bars and a quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.quarantine_reasons import OUTSIDE_HOURS
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import QuarantineLimitError, UnreviewedSessionsError
from vpoc_ml.ingest.clean import Cleaned, clean
from vpoc_ml.ingest.convention import check_side, check_unadjusted, check_zone
from vpoc_ml.ingest.file_streams import read_head
from vpoc_ml.ingest.merge import Merged, merge
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.row_filters import reviewed_rows
from vpoc_ml.ingest.row_text import with_text
from vpoc_ml.ingest.sniff import choose
from vpoc_ml.ingest.vix.vix_closes import check_coverage, join_index, join_vix
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import reviewed_range
from vpoc_ml.market.instruments import Instrument


@dataclass(frozen=True)
class BuiltBars:
    """Bars and quarantine of a contract: ``rows_in == len(bars) + len(quarantine)``, always.

    Rows that several files deliver alike are one row of ``rows_in``; rows of sessions whose hours were not reviewed are
    none of them, ``left_out`` says how many there were (empty: none).
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
    """Read a contract's sources (or one file of it) and return its bars with session, rth flag and VIX.

    bars: ts, contract, session, rth, open, high, low, close, volume, vix; sorted by unique ts, START of bar, UTC.
    ``vix`` is null where no VIX is given; each of ``covariates`` (values like those of the VIX) is a column after it.
    quarantine: line, ts, open, high, low, close, volume, reason, text, file; sorted by file and line. ``notes``
    says what the readers converted and what was delivered twice, for the run's report. With ``as_of`` (aware) only
    rows of bars that had ended then are read, as if the files had been delivered at that moment.

    Raises:
        UnreadableFileError: not the expected format, cut off, two files that contradict each other, adjusted
            prices, or stamps of another zone or side of the bar than the format's.
        QuarantineLimitError: a larger share of bad rows than ``config.quarantine_limit``, or no good row.
        VixCoverageError: an index that does not cover the bars.
        UnreviewedSessionsError: no row is of a session whose hours were reviewed.
    """
    if isinstance(sources, Path):
        sources = [_source(sources, contract, config)]
    merged = merge(sources, instrument, config, as_of)
    rows, left_out = reviewed_rows(merged.rows, contract, instrument)
    if left_out and rows.is_empty():
        raise UnreviewedSessionsError(_where(merged), instrument.calendar, *reviewed_range(instrument.calendar))
    merged = replace(merged, rows=rows)
    cleaned = clean(merged.rows, contract, instrument, config.min_price, config.bad_prints)
    reasons = _counted(cleaned.quarantine)
    bad, rows_in = cleaned.quarantine.height, merged.rows.height
    check_side(cleaned, contract, instrument, _where(merged))
    check_unadjusted(cleaned, rows_in, instrument, _where(merged))
    if bad > config.quarantine_limit * rows_in or not cleaned.bars.height:
        if OUTSIDE_HOURS in reasons:
            check_zone(merged.rows, contract, instrument, _where(merged))
        raise QuarantineLimitError(_where(merged), bad, rows_in, config.quarantine_limit, reasons)
    bars = with_indices(cleaned.bars, cleaned.bars, vix, covariates or {}, instrument.calendar)
    quarantine = with_text(cleaned.quarantine, merged.sources, instrument, config)
    return BuiltBars(bars, quarantine, rows_in, reasons, _notes(cleaned, merged), left_out)


def with_indices(
    bars: pl.DataFrame,
    spanned: pl.DataFrame,
    vix: pl.DataFrame | None,
    covariates: Mapping[str, pl.DataFrame],
    calendar: str,
) -> pl.DataFrame:
    """Return ``bars`` with the VIX and the covariates as known before each; they must cover ``spanned``.

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


def _source(path: Path, contract: Contract, config: IngestConfig) -> Source:
    return FileRef(path).source(choose(FileRef(path), read_head(path), config).name, contract)


def _where(merged: Merged) -> str:
    first = merged.sources[0]
    return str(first.path) if len(merged.sources) == 1 else f"{len(merged.sources)} files of {first.contract}"


def _counted(quarantine: pl.DataFrame) -> dict[str, int]:
    counts = quarantine.group_by("reason").len().sort("len", "reason", descending=[True, False])
    return dict(counts.iter_rows())


def _notes(cleaned: Cleaned, merged: Merged) -> list[str]:
    notes = list(merged.notes)
    if cleaned.out_of_order:
        notes.append(f"{cleaned.out_of_order} rows were out of order and have been sorted")
    return notes
