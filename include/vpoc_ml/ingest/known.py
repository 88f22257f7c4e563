"""What of a vendor file was known at a moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.instruments import Instrument

BAR_LENGTH = timedelta(seconds=60)
"""A bar is known when it has ended, this long after its timestamp."""


def rows_ended_by(rows: pl.DataFrame, as_of: datetime | None) -> pl.DataFrame:
    """Return the rows (ts) of bars that had ended at ``as_of``, all for None; one without a timestamp stays."""
    return rows if as_of is None else rows.filter((pl.col("ts") + BAR_LENGTH <= as_of).fill_null(True))


def first_timestamp(source: Source, instrument: Instrument, config: IngestConfig) -> datetime | None:
    """Return the earliest timestamp of a source, UTC; None where no row has one.

    Raises:
        UnreadableFileError: the source cannot be read.
    """
    stamps = (batch["ts"].min() for batch in READERS[source.reader].batches(source, instrument, config))
    return min((stamp for stamp in stamps if isinstance(stamp, datetime)), default=None)
