"""Bars of sessions whose hours the calendar does not know: they are left out, with a note, and are no bad rows."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import reviewed_hours, reviewed_range
from vpoc_ml.market.instruments import Instrument

_LISTED = timedelta(days=3653)
"""How long before its expiry a contract can have bars; an earlier timestamp is a mistake, not history."""
_TRADED = timedelta(days=731)
"""How long before its expiry a contract's file is looked into before it is planned."""


def reviewed_rows(rows: pl.DataFrame, contract: Contract, instrument: Instrument) -> tuple[pl.DataFrame, str]:
    """Return the rows (ts and any others) of reviewed sessions, and a sentence about the rest, empty if there is none.

    Rows without a timestamp, more than ten years before expiry or after it stay: they are bad rows, not history.
    """
    opens, closes = reviewed_hours(instrument.calendar)
    expiry = datetime.combine(contract.expiry, time(), UTC)
    early = (pl.col("ts") < opens) & (pl.col("ts") >= expiry - _LISTED)
    late = (pl.col("ts") >= closes) & (pl.col("ts") < expiry + timedelta(days=1))
    left_out = rows.filter(early | late)
    if left_out.is_empty():
        return rows, ""
    days = left_out["ts"].sort().dt.date()
    found = f"{left_out.height:,} row{'s' if left_out.height > 1 else ''} from {days[0]} to {days[-1]}"
    return rows.filter(~(early | late).fill_null(False)), f"{found} left out: {describe_reviewed_range(instrument)}"


def describe_reviewed_range(instrument: Instrument) -> str:
    """Return the clause that says which sessions are reviewed."""
    first, last = reviewed_range(instrument.calendar)
    return f"calendar {instrument.calendar} is reviewed for sessions from {first} to {last} only"


def has_reviewed_bar(source: Source, contract: Contract, instrument: Instrument, config: IngestConfig) -> bool:
    """Return whether a source may have a bar of a reviewed session; it is read only where its contract leaves a doubt.

    True of a source that cannot be read: the stage that reads it says why.
    """
    first, last = reviewed_range(instrument.calendar)
    if contract.expiry < first:
        return False
    if first + _TRADED <= contract.expiry <= last:
        return True
    opens, closes = reviewed_hours(instrument.calendar)
    inside = ((pl.col("ts") >= opens) & (pl.col("ts") < closes)).any()
    try:
        batches = READERS[source.reader].batches(source, instrument, config)
        return any(batch.select(inside).item() for batch in batches)
    except UnreadableFileError:
        return True
