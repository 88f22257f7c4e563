"""The history of all gates: what every check counted, night after night.

``reports/history.parquet`` is a folder with one file per gate and run, which ``scan_parquet`` reads as one
table. So a gate that runs again replaces its own rows, gates of parallel tasks never wait for or lose
each other, and adding a night costs the same after a year as on the first day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml.artifacts.gate_report import Verdict, safe_name
from vpoc_ml.lake.atomic import replacing
from vpoc_ml.quality.checks import Check, Measurement

HISTORY = "history.parquet"
PROFILES = "profiles.parquet"

SCHEMA: dict[str, Any] = {
    "run": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "gate": pl.String,
    "contract": pl.String,
    "column": pl.String,
    "check": pl.String,
    "failed": pl.String,
    "count": pl.Int64,
    "rows": pl.Int64,
    "share": pl.Float64,
    "warn_share": pl.Float64,
    "error_share": pl.Float64,
}


def append(
    reports_dir: Path,
    verdict: Verdict,
    checks: Sequence[Check],
    measurements: Sequence[Measurement],
    failed: Mapping[tuple[str, str, str], tuple[Any, ...]],
    *,
    now: datetime,
) -> None:
    """Store one row per contract, column and check of the gate; the rows of an earlier try are replaced.

    Column ``failed`` holds the worst severity that failed, null for a check that holds; ``count`` is null
    where nothing could be counted.
    """
    counted = {(t.contract, t.column, t.check): t for t in measurements}
    rows = []
    for check in checks:
        for contract in check.scope(verdict.contracts):
            key = (contract, check.column, check.name)
            measurement = counted.get(key)
            rows.append(
                {
                    "run": verdict.run,
                    "time": now,
                    "gate": verdict.gate,
                    "contract": contract,
                    "column": check.column,
                    "check": check.name,
                    "failed": failed[key][0] if key in failed else None,
                    "count": measurement.count if measurement else None,
                    "rows": measurement.rows if measurement else None,
                    "share": measurement.share if measurement else None,
                    "warn_share": check.warn_if.share if check.warn_if else None,
                    "error_share": check.error_if.share if check.error_if else None,
                }
            )
    _write(reports_dir / HISTORY, verdict.gate, verdict.run, pl.DataFrame(rows, schema=SCHEMA))


def append_profiles(reports_dir: Path, gate: str, run: str, profiles: Sequence[pl.DataFrame]) -> None:
    """Store the column profiles of the gate beside its checks, with the columns run and gate in front."""
    filled = [profile for profile in profiles if profile.width]
    if filled:
        frame = pl.concat(filled).select(pl.lit(run).alias("run"), pl.lit(gate).alias("gate"), pl.all())
        _write(reports_dir / PROFILES, gate, run, frame)


def scan(reports_dir: Path) -> pl.LazyFrame:
    """Return the whole history, columns as ``SCHEMA``; empty when no gate has run yet."""
    files = sorted((reports_dir / HISTORY).glob("*.parquet"))
    return pl.scan_parquet(files) if files else pl.LazyFrame(schema=SCHEMA)


def _write(folder: Path, gate: str, run: str, frame: pl.DataFrame) -> None:
    with replacing(folder / f"{gate}__{safe_name(run)}.parquet") as temporary:
        frame.write_parquet(temporary)
