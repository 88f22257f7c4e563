"""Daily VIX closes from the VIX column of the legacy system's merged file, without its look-ahead.

That column carries a daily close at every minute, joined by an undocumented rule: by UTC date or by trade date,
with or without a lag. Under every such rule a bar that ends by 16:15 New York of a date carries the close of that
date or an older one. So the last value until 16:15 is taken as the date's close and published at 16:15: where the
rule had a lag the closes are a day late, and they are never early.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.parsing.file_settings import timestamp_format
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.readers import merged as merged_reader
from vpoc_ml.ingest.vix.index_files import PublicationTime
from vpoc_ml.ingest.vix.publication_times import NEW_YORK
from vpoc_ml.lake.atomic import write_text

_TIMESTAMPS = ("timestamp", "date", "datetime", "ts", "time")
_SAMPLED = 200
_REMEDY = "Give a VIX file (--vix)."


def write_closes(merged: Path, target: Path, config: IngestConfig | None = None) -> Path:
    """Write the closes as a CSV file ``DATE,CLOSE`` that ``read_vix`` reads; return its path.

    The first session needs a close from before the file; its own first value stands in for that. Only rows of the
    features' warm-up see it.

    Args:
        merged: CSV or Parquet file with VIX and a column of timestamps of the end of bars, or date and time.
        target: file to write.
        config: ``ingest.timezone`` is the zone of timestamps that carry none, UTC unless set; ``date_order``.

    Raises:
        UnreadableFileError: no such columns, or no positive VIX in them.
    """
    frame = _columns(merged, config or IngestConfig())
    local = frame["ts"].dt.convert_time_zone(NEW_YORK)
    known = frame.with_columns(date=local.dt.date(), clock=local.dt.time()).filter(
        pl.col("vix").is_finite() & (pl.col("vix") > 0)
    )
    if known.is_empty():
        raise UnreadableFileError(merged, "a VIX column with positive closes", "none", remedy=_REMEDY)
    daily = (
        known.filter(pl.col("clock") <= PublicationTime().at).group_by("date").agg(pl.col("vix").last()).sort("date")
    )
    first = known.row(0, named=True)
    rows = [(first["date"] - timedelta(days=1), first["vix"]), *daily.iter_rows()]
    write_text(target, "DATE,CLOSE\n" + "".join(f"{day.isoformat()},{close}\n" for day, close in rows))
    return target


def _columns(path: Path, config: IngestConfig) -> pl.DataFrame:
    """Return ts Datetime[us, UTC] and vix f64, sorted by ts."""
    parquet = path.suffix.lower() in (".parquet", ".pq")
    scan = pl.scan_parquet(path) if parquet else pl.scan_csv(path, infer_schema=False)
    names = {name.strip().lower(): name for name in scan.collect_schema().names()}
    timestamps = [names[name] for name in merged_reader.timestamp_columns(names) if name in names]
    timestamps = timestamps or [names[name] for name in _TIMESTAMPS if name in names][:1]
    if not timestamps or "vix" not in names:
        found = ", ".join(names) or "no columns"
        raise UnreadableFileError(path, f"the columns VIX and {' or '.join(_TIMESTAMPS[:2])}", found, remedy=_REMEDY)
    written = pl.col(timestamps[0])
    if len(timestamps) > 1:
        written = pl.concat_str(pl.col(timestamps).cast(pl.String).str.strip_chars(), separator=" ")
    frame = scan.select(ts=written, vix=pl.col(names["vix"]).cast(pl.Float64, strict=False)).collect()
    return frame.with_columns(_utc(path, frame["ts"], config)).sort("ts")


def _utc(path: Path, timestamps: pl.Series, config: IngestConfig) -> pl.Series:
    if isinstance(timestamps.dtype, pl.Datetime) and timestamps.dtype.time_zone is not None:
        return timestamps.dt.convert_time_zone("UTC")
    if isinstance(timestamps.dtype, pl.Datetime):
        timestamps = timestamps.dt.to_string("%Y-%m-%d %H:%M:%S")
    if timestamps.dtype != pl.String:
        raise UnreadableFileError(path, "a column of date-times", str(timestamps.dtype), remedy=_REMEDY)
    file, first = FileRef(path), timestamps.drop_nulls().head(_SAMPLED).to_list()
    formats = merged_reader.formats(file, first, config)
    parsed, _ = timestamp_format(
        file, merged_reader.READER.name, config, first, formats, label_side="start", default="UTC"
    )
    known = timestamps.to_frame("ts").select(parsed.to_utc(pl.col("ts"))).to_series()
    if known.has_nulls():
        line = int(known.is_null().arg_true()[0])
        raise UnreadableFileError(path, "timestamps such as 2025-01-31 09:30:00", repr(timestamps[line]), line=line + 2)
    return known
