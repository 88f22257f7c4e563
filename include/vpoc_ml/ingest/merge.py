"""Merge the rows of one contract from all its sources: repeated rows count once, conflicts are resolved.

Sources are compared by the hash of their content.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV, PRICES, TIME
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import blocks, hash_content, open_unpacked
from vpoc_ml.ingest.readers import known_readers
from vpoc_ml.ingest.row_filters import rows_ended_by
from vpoc_ml.market.instruments import Instrument


def hash_source(source: Source) -> str:
    """Return the SHA-256 of a source's content, read in blocks: the file or member, or the symbol's own lines.

    Raises:
        MissingInputError, UnreadableFileError: the file is absent or damaged.
    """
    if source.symbol is None or source.span is None:
        return hash_content(source.path, source.member)
    digest = hashlib.sha256()
    with open_unpacked(source.path, source.member, ratio=math.inf) as stream:
        digest.update(stream.readline(4096))
        for block in blocks(stream, offset=source.span.start, line=source.span.line, stop=source.span.stop):
            lines = pl.Series([block.text]).str.split("\n").explode()
            for text in lines.filter(lines.str.contains(source.symbol, literal=True)):
                digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def combined_hash(sources: Sequence[Source], hash_one: Callable[[Source], str] = hash_source) -> str:
    """Return one SHA-256 over several sources. Content that was delivered twice counts once.

    ``hash_one`` hashes one source; a caller may pass a function that caches the hash of an unchanged file.

    Raises:
        MissingInputError, UnreadableFileError: as ``hash_source``.
    """
    distinct = dict.fromkeys(hash_one(source) for source in sorted(sources, key=lambda each: each.order))
    return hashlib.sha256("\n".join(distinct).encode()).hexdigest()


ROW_SCHEMA: dict[str, pl.DataType] = {
    "ts": TIME,
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Int64(),
    "line": pl.Int64(),
    "file": pl.UInt32(),
}
GRID_ROWS = 100
"""Fewer rows than this do not show whether bars are longer than a minute."""


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
        UnreadableFileError: a source cannot be read, or two sources conflict and ``config.conflicts`` is ``error``.
    """
    distinct: dict[str, Source] = {}
    notes: list[str] = []
    for source in sorted(sources, key=lambda each: each.order):
        content = hash_source(source) if len(sources) > 1 else ""
        if content in distinct:
            notes.append(f"{source.name} is a copy of {distinct[content].name} and was read once")
        else:
            distinct[content] = source
    kept = tuple(distinct.values())
    rows = pl.concat(
        rows_ended_by(_rows(source, number, instrument, config), as_of) for number, source in enumerate(kept)
    )
    readers = known_readers()
    notes += [readers[source.reader].note(source, config) for source in kept]
    rows, repeated = _resolved(rows, kept, config)
    return Merged(rows, kept, tuple(dict.fromkeys([*notes, *repeated])))


def _rows(source: Source, number: int, instrument: Instrument, config: IngestConfig) -> pl.DataFrame:
    batches = known_readers()[source.reader].batches(source, instrument, config)
    frames = [batch.drop("text").with_columns(file=pl.lit(number, pl.UInt32)) for batch in batches]
    rows = pl.concat(frames).select(pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items())
    minutes = rows["ts"].drop_nulls().dt.minute()
    if minutes.len() >= GRID_ROWS and (((minutes + 1) % 5 == 0).all() or (minutes % 5 == 0).all()):
        raise UnreadableFileError(
            source.path,
            "one-minute bars",
            "timestamps at multiples of five minutes only",
            remedy="Export one-minute bars.",
        )
    return rows


def _resolved(rows: pl.DataFrame, sources: Sequence[Source], config: IngestConfig) -> tuple[pl.DataFrame, list[str]]:
    """Drop rows that several sources deliver identically; raise or choose if sources conflict."""
    shared = _in_several_files(rows)
    if not shared.height:
        return rows, []
    first = pl.col("file") == pl.col("file").min().over("ts", *OHLCV)
    distinct = rows.filter(pl.col("ts").is_null() | ~pl.col("ts").is_in(shared["ts"].implode()) | first)
    notes = []
    if repeated := rows.height - distinct.height:
        notes.append(f"{repeated} rows were delivered identically by several files and count once")
    contested = _in_several_files(distinct)
    if not contested.height:
        return distinct, notes
    if config.conflicts == "error":
        timestamp = contested.select(pl.col("ts").min()).item()
        differing = distinct.filter(pl.col("ts") == timestamp).unique("file", keep="first", maintain_order=True)
        shown = [
            f"{sources[row['file']].name}, line {row['line']}: {[row[name] for name in OHLCV]}"
            for row in differing.iter_rows(named=True)
        ]
        raise UnreadableFileError(
            sources[0].path.parent,
            f"files of {sources[0].contract} that agree",
            f"at {timestamp} " + " and ".join(shown),
            remedy="Keep the correct file, or set ingest.conflicts=latest to take the file whose last bar is latest.",
        )
    # of contested timestamps keep the rows of the file with the latest bar; of equal files the last by name
    order = distinct.group_by("file").agg(pl.col("ts").max()).sort("ts", "file").with_row_index("rank")
    ranked = distinct.join(order.select("file", "rank"), on="file", how="left", maintain_order="left")
    best = pl.col("rank") == pl.col("rank").max().over("ts")
    kept = ranked.filter(pl.col("ts").is_null() | ~pl.col("ts").is_in(contested["ts"].implode()) | best).drop("rank")
    notes.append(
        f"{contested.height} minutes that differ between files are taken from the file whose last bar is latest"
        " (ingest.conflicts=latest)"
    )
    return kept, notes


def _in_several_files(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the timestamps that come from more than one file."""
    timed = rows.filter(pl.col("ts").is_not_null())
    return timed.group_by("ts").agg(pl.col("file").n_unique()).filter(pl.col("file") > 1)
