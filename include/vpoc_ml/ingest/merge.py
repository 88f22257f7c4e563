"""Rows of one contract out of all its sources: what was delivered twice counts once, contradictions are settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.fingerprints import hash_source
from vpoc_ml.ingest.known import rows_ended_by
from vpoc_ml.ingest.parsing.text_layout import VALUES
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.instruments import Instrument

ROW_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "ts": pl.Datetime("us", "UTC"),
    **dict.fromkeys(VALUES[:4], pl.Float64),
    "volume": pl.Int64,
    "line": pl.Int64,
    "file": pl.UInt32,
}
GRID_ROWS = 100


@dataclass(frozen=True)
class Merged:
    """Rows of all sources in order (``file`` is the index into ``sources``), and notes for the run's report."""

    rows: pl.DataFrame
    sources: tuple[Source, ...]
    notes: tuple[str, ...]


def merge(
    sources: Sequence[Source], instrument: Instrument, config: IngestConfig, as_of: datetime | None = None
) -> Merged:
    """Read every source and return its rows without their text; a file that copies another is read once.

    With ``as_of`` (aware) rows of bars that had not ended then are left out.

    Raises:
        UnreadableFileError: a source cannot be read, or two sources contradict each other and
            ``config.conflicts`` is ``error``.
    """
    distinct, notes = _without_copies(sorted(sources, key=lambda source: source.order))
    frames = [rows_ended_by(_rows(source, number, instrument, config), as_of) for number, source in enumerate(distinct)]
    rows = pl.concat(frames)
    for source in distinct:
        notes.append(READERS[source.reader].note(source, config))
    rows, repeated = _settled(rows, distinct, config)
    return Merged(rows, distinct, tuple(dict.fromkeys([*notes, *repeated])))


def _without_copies(sources: Sequence[Source]) -> tuple[tuple[Source, ...], list[str]]:
    seen: dict[str, Source] = {}
    notes: list[str] = []
    for source in sources:
        mark = hash_source(source) if len(sources) > 1 else ""
        if mark in seen:
            notes.append(f"{source.name} is a copy of {seen[mark].name} and was read once")
        else:
            seen[mark] = source
    return tuple(seen.values()), notes


def _rows(source: Source, number: int, instrument: Instrument, config: IngestConfig) -> pl.DataFrame:
    batches = READERS[source.reader].batches(source, instrument, config)
    frames = [batch.drop("text").with_columns(file=pl.lit(number, pl.UInt32)) for batch in batches]
    rows = pl.concat(frames).select(pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items())
    stamps = rows["ts"].drop_nulls()
    if stamps.len() >= GRID_ROWS and ((stamps.dt.minute() + 1) % 5 == 0).all() | (stamps.dt.minute() % 5 == 0).all():
        raise UnreadableFileError(
            source.path, "one-minute bars", "stamps at multiples of five minutes only", remedy="Export one-minute bars."
        )
    return rows


def _settled(rows: pl.DataFrame, sources: Sequence[Source], config: IngestConfig) -> tuple[pl.DataFrame, list[str]]:
    """Drop what several sources deliver alike; raise or choose where they contradict each other."""
    shared = _several(rows)
    if not shared.height:
        return rows, []
    first = pl.col("file") == pl.col("file").min().over("ts", *VALUES)
    alone = rows.filter(pl.col("ts").is_null() | ~pl.col("ts").is_in(shared["ts"].implode()) | first)
    notes = []
    if repeated := rows.height - alone.height:
        notes.append(f"{repeated} rows were delivered alike by several files and count once")
    contested = _several(alone)
    if not contested.height:
        return alone, notes
    if config.conflicts == "error":
        raise _contradiction(alone, contested["ts"].min(), sources)
    kept = _of_latest(alone, contested["ts"])
    notes.append(
        f"{contested.height} minutes that files tell differently are those of the file that reaches latest"
        " (ingest.conflicts=latest)"
    )
    return kept, notes


def _several(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the stamps that come from more than one file."""
    stamped = rows.filter(pl.col("ts").is_not_null())
    return stamped.group_by("ts").agg(pl.col("file").n_unique()).filter(pl.col("file") > 1)


def _of_latest(rows: pl.DataFrame, contested: pl.Series) -> pl.DataFrame:
    """Keep, of contested stamps, the rows of the file whose last stamp is latest; of equals, the last by name."""
    order = rows.group_by("file").agg(pl.col("ts").max()).sort("ts", "file").with_row_index("rank")
    ranked = rows.join(order.select("file", "rank"), on="file", how="left", maintain_order="left")
    best = pl.col("rank") == pl.col("rank").max().over("ts")
    return ranked.filter(pl.col("ts").is_null() | ~pl.col("ts").is_in(contested.implode()) | best).drop("rank")


def _contradiction(rows: pl.DataFrame, stamp: object, sources: Sequence[Source]) -> UnreadableFileError:
    told = rows.filter(pl.col("ts") == stamp).unique("file", keep="first", maintain_order=True)
    shown = [
        f"{sources[row['file']].name}, line {row['line']}: {[row[name] for name in VALUES]}"
        for row in told.iter_rows(named=True)
    ]
    return UnreadableFileError(
        sources[0].path.parent,
        f"files of {sources[0].contract} that agree",
        f"at {stamp} " + " and ".join(shown),
        remedy="Keep the file that is right, or set ingest.conflicts=latest to take the file that reaches latest.",
    )
