"""The text of selected source rows, read in a second pass so that the first pass holds no text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.instruments import Instrument

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
        batches = READERS[sources[number].reader].batches(sources[number], instrument, config)
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
        for batch in READERS[source.reader].batches(source, instrument, config):
            rows = batch.filter(pl.col("ts").is_in(wanted.implode())).select("line", "text")
            found += [f"{source.name}, line {line}: {(text or '')[:LONGEST_TEXT]!r}" for line, text in rows.iter_rows()]
    return found
