"""From one vendor file to canonical bars and a quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import QuarantineLimitError
from vpoc_ml.ingest import ninjatrader
from vpoc_ml.ingest.clean import Cleaned, clean
from vpoc_ml.ingest.vix import check_coverage, join_vix
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instruments import Instrument


@dataclass(frozen=True)
class BuiltBars:
    """Bars and quarantine of one file: ``rows_in == len(bars) + len(quarantine)``, always."""

    bars: pl.DataFrame
    quarantine: pl.DataFrame
    rows_in: int
    reasons: dict[str, int]
    notes: list[str]


def build_bars(
    path: Path, contract: Contract, instrument: Instrument, vix: pl.DataFrame, config: IngestConfig
) -> BuiltBars:
    """Read a vendor file and return its bars with session, rth flag and VIX, and what was set aside.

    bars: ts, contract, session, rth, open, high, low, close, volume, vix; sorted by unique ts, START of bar, UTC.
    quarantine: line, ts, open, high, low, close, volume, reason, text; sorted by line. ``notes`` says what the
    reader converted, for the run's report.

    Raises:
        UnreadableFileError: not the expected format, or cut off.
        QuarantineLimitError: a larger share of bad rows than ``config.quarantine_limit``, or no good row.
        VixCoverageError: VIX closes that do not cover the bars.
    """
    rows = ninjatrader.read(path)
    cleaned = clean(rows, contract, instrument, config.min_price)
    reasons = _counted(cleaned.quarantine)
    bad = cleaned.quarantine.height
    if bad > config.quarantine_limit * rows.height or not cleaned.bars.height:
        raise QuarantineLimitError(path, bad, rows.height, config.quarantine_limit, reasons)
    check_coverage(cleaned.bars, vix, instrument.calendar)
    bars = join_vix(cleaned.bars, vix)
    return BuiltBars(bars, cleaned.quarantine, rows.height, reasons, _notes(cleaned))


def _counted(quarantine: pl.DataFrame) -> dict[str, int]:
    counts = quarantine.group_by("reason").len().sort("len", "reason", descending=[True, False])
    return dict(counts.iter_rows())


def _notes(cleaned: Cleaned) -> list[str]:
    notes = [ninjatrader.NOTE]
    if cleaned.out_of_order:
        notes.append(f"{cleaned.out_of_order} rows were out of order and have been sorted")
    return notes
