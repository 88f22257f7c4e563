"""Rows that ingestion leaves out, and the text of rows that it reports.

Left out are sessions without reviewed hours, and bars that had not ended at an as-of time. Such rows are no bad rows:
they do not go to the quarantine. The text of selected rows is read in a second pass, so the first pass holds no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.readers import known_readers
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import reviewed_hours, reviewed_range
from vpoc_ml.market.instruments import Instrument

BAR_LENGTH = timedelta(seconds=60)
"""A bar is known when it has ended, this long after its timestamp."""
_LISTED = timedelta(days=3653)
"""How long before its expiry a contract can have bars; an earlier timestamp is a mistake, not history."""
_TRADED = timedelta(days=731)
"""A contract that expires this long after the first reviewed session has bars of reviewed sessions for certain."""


def rows_ended_by(rows: pl.DataFrame, as_of: datetime | None) -> pl.DataFrame:
    """Return the rows (ts) of bars that had ended at ``as_of``; None: all. A row without a timestamp stays."""
    return rows if as_of is None else rows.filter((pl.col("ts") + BAR_LENGTH <= as_of).fill_null(True))


def first_timestamp(source: Source, instrument: Instrument, config: IngestConfig) -> datetime | None:
    """Return the earliest timestamp of a source, UTC; None if no row has one.

    Raises:
        UnreadableFileError: the source cannot be read.
    """
    earliest = (batch["ts"].min() for batch in known_readers()[source.reader].batches(source, instrument, config))
    return min((ts for ts in earliest if isinstance(ts, datetime)), default=None)


def reviewed_rows(rows: pl.DataFrame, contract: Contract, instrument: Instrument) -> tuple[pl.DataFrame, str]:
    """Return the rows (ts and any others) of reviewed sessions, and a sentence about the rest; empty if none.

    Rows without a timestamp, more than ten years before expiry or after it stay: they are bad rows, not history.
    """
    opens, closes = reviewed_hours(instrument.calendar)
    expiry = datetime.combine(contract.expiry, time(), UTC)
    before = (pl.col("ts") < opens) & (pl.col("ts") >= expiry - _LISTED)
    after = (pl.col("ts") >= closes) & (pl.col("ts") < expiry + timedelta(days=1))
    left_out = rows.filter(before | after)
    if left_out.is_empty():
        return rows, ""
    days = left_out["ts"].sort().dt.date()
    found = f"{left_out.height:,} row{'s' if left_out.height > 1 else ''} from {days[0]} to {days[-1]}"
    kept = rows.filter(~(before | after).fill_null(False))
    return kept, f"{found} left out: {describe_reviewed_range(instrument)}"


def describe_reviewed_range(instrument: Instrument) -> str:
    """Return the clause that says which sessions are reviewed."""
    first, last = reviewed_range(instrument.calendar)
    return f"calendar {instrument.calendar} is reviewed for sessions from {first} to {last} only"


def has_reviewed_bar(source: Source, contract: Contract, instrument: Instrument, config: IngestConfig) -> bool:
    """Return whether a source may have a bar of a reviewed session.

    The source is read only if the contract's expiry does not decide. A source that cannot be read returns True: the
    ingest stage then reports the error.
    """
    first, last = reviewed_range(instrument.calendar)
    if contract.expiry < first:
        return False
    if first + _TRADED <= contract.expiry <= last:
        return True
    opens, closes = reviewed_hours(instrument.calendar)
    inside = ((pl.col("ts") >= opens) & (pl.col("ts") < closes)).any()
    try:
        batches = known_readers()[source.reader].batches(source, instrument, config)
        return any(batch.select(inside).item() for batch in batches)
    except UnreadableFileError:
        return True


LONGEST_TEXT = 500


def with_text(
    quarantine: pl.DataFrame, sources: Sequence[Source], instrument: Instrument, config: IngestConfig
) -> pl.DataFrame:
    """Return the quarantine with ``text``, the first 500 characters of the source line, and ``file``, its name.

    On input ``file`` is the index into ``sources``.
    """
    texts = [pl.DataFrame(schema={"file": pl.UInt32, "line": pl.Int64, "text": pl.String})]
    for number, lines in quarantine.group_by("file").agg("line").sort("file").iter_rows():
        wanted = pl.col("line").is_in(pl.Series("line", lines).implode())
        columns = (pl.lit(number, pl.UInt32).alias("file"), "line", pl.col("text").str.slice(0, LONGEST_TEXT))
        batches = known_readers()[sources[number].reader].batches(sources[number], instrument, config)
        texts.append(pl.concat([batch.filter(wanted).select(columns) for batch in batches]).rechunk())
    names = pl.Series([source.name for source in sources], dtype=pl.String)
    return (
        quarantine.join(pl.concat(texts), on=["file", "line"], how="left", maintain_order="left")
        .with_columns(file=names.gather(quarantine["file"]))
        .select(*(name for name in quarantine.columns if name not in ("file", "text")), "text", "file")
    )


def source_lines_at(
    timestamps: Sequence[datetime], sources: Sequence[Source], instrument: Instrument, config: IngestConfig
) -> list[str]:
    """Return file, line and text of the rows with these timestamps (start of bar, UTC), in the sources' order."""
    wanted = pl.Series("ts", timestamps, dtype=pl.Datetime("us", "UTC"))
    found = []
    for source in sources:
        for batch in known_readers()[source.reader].batches(source, instrument, config):
            rows = batch.filter(pl.col("ts").is_in(wanted.implode())).select("line", "text")
            found += [f"{source.name}, line {line}: {(text or '')[:LONGEST_TEXT]!r}" for line, text in rows.iter_rows()]
    return found
