"""Daily VIX closes out of the VIX column of the earlier system's merged file, without its look-ahead.

That column carries a daily close at every minute, joined by a rule nobody wrote down: by UTC date or by trade date,
with or without a lag. Under every such rule a bar that ends by 16:15 New York of a date carries the close of that
date or an older one. So the last value until 16:15 is taken as the date's close and published at 16:15: where the
rule had a lag the closes are a day late, and they are never early.
"""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path

import polars as pl

from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.lake.atomic import write_text

_STAMPS = ("timestamp", "date", "datetime", "ts", "time")
_PUBLISHED = time(16, 15)
_REMEDY = "Give a VIX file (--vix)."


def write_closes(merged: Path, target: Path) -> Path:
    """Write the closes as a CSV file ``DATE,CLOSE`` that ``read_vix`` reads; return its path.

    The first session needs a close from before the file; its own first value stands in for that. Only rows of the
    features' warm-up see it.

    Args:
        merged: CSV or Parquet file with a column of stamps (of ends of bars; UTC where they carry no zone) and VIX.
        target: file to write.

    Raises:
        UnreadableFileError: no such columns, or no positive VIX in them.
    """
    frame = _columns(merged)
    stamp = frame["stamp"].dt.convert_time_zone("America/New_York")
    known = frame.with_columns(date=stamp.dt.date(), clock=stamp.dt.time()).filter(
        pl.col("vix").is_finite() & (pl.col("vix") > 0)
    )
    if known.is_empty():
        raise UnreadableFileError(merged, "a VIX column with positive closes", "none", remedy=_REMEDY)
    daily = known.filter(pl.col("clock") <= _PUBLISHED).group_by("date").agg(pl.col("vix").last()).sort("date")
    first = known.row(0, named=True)
    rows = [(first["date"] - timedelta(days=1), first["vix"]), *daily.iter_rows()]
    write_text(target, "DATE,CLOSE\n" + "".join(f"{day.isoformat()},{close}\n" for day, close in rows))
    return target


def _columns(path: Path) -> pl.DataFrame:
    """Return stamp Datetime[us, UTC] and vix f64, sorted by stamp."""
    parquet = path.suffix.lower() in (".parquet", ".pq")
    scan = pl.scan_parquet(path) if parquet else pl.scan_csv(path, infer_schema=False)
    names = {name.strip().lower(): name for name in scan.collect_schema().names()}
    stamp = next((names[name] for name in _STAMPS if name in names), None)
    if stamp is None or "vix" not in names:
        found = ", ".join(names) or "no columns"
        raise UnreadableFileError(path, f"the columns VIX and {' or '.join(_STAMPS[:2])}", found, remedy=_REMEDY)
    frame = scan.select(stamp=pl.col(stamp), vix=pl.col(names["vix"]).cast(pl.Float64, strict=False)).collect()
    return frame.with_columns(_utc(path, frame["stamp"])).sort("stamp")


def _utc(path: Path, stamps: pl.Series) -> pl.Series:
    if stamps.dtype == pl.String:
        aware = stamps.len() > 0 and (stamps[0].endswith("Z") or stamps[0][-6:-5] in ("+", "-"))
        try:
            stamps = stamps.str.to_datetime(time_unit="us", time_zone="UTC" if aware else None)
        except pl.exceptions.PolarsError as error:
            raise UnreadableFileError(path, "stamps such as 2025-01-31 09:30:00", repr(stamps[0])) from error
    if not isinstance(stamps.dtype, pl.Datetime):
        raise UnreadableFileError(path, "a column of date-times", str(stamps.dtype), remedy=_REMEDY)
    zone = stamps.dtype.time_zone
    return stamps.dt.replace_time_zone("UTC") if zone is None else stamps.dt.convert_time_zone("UTC")
