"""The history of all gates: the measurements and results of every check, run after run.

``reports/history.parquet`` is a folder with one file per gate and run, which ``scan_parquet`` reads as one table.
``reports/profiles.parquet`` holds the column profiles in the same way. A gate that runs again replaces its own rows,
gates of parallel tasks neither wait for each other nor lose rows, and storing a run costs the same at any age of the
history.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import Severity, Verdict, safe_name
from vpoc_ml.artifacts.schemas import GATE_HISTORY, Schema
from vpoc_ml.lake.atomic import replacing
from vpoc_ml.quality.checks import GateInput, Limit


def store(
    reports_dir: Path,
    verdict: Verdict,
    gate_input: GateInput,
    failed: Mapping[tuple[str, str, str], Severity],
    kept: Mapping[str, pl.DataFrame] = MappingProxyType({}),
    *,
    now: datetime,
) -> None:
    """Store one row per contract, column and check of a gate, and its column profiles; replace a former attempt's.

    Args:
        reports_dir: Folder of all reports.
        verdict: Verdict of the gate.
        gate_input: Checks, measurements and column profiles of the gate.
        failed: (contract, column, check) -> worst severity that failed.
        kept: Further tables by name; an empty one is not stored.
        now: Time of the validation, aware.
    """
    measured = {(each.contract, each.column, each.check): each for each in gate_input.measurements}
    rows = []
    for check in gate_input.checks:
        for contract in check.scope(gate_input.contracts):
            key = (contract, check.column, check.name)
            each = measured.get(key)
            counts = (each.count, each.rows, each.share) if each else (None, None, None)
            limits = [check.warn_if or Limit(), check.error_if or Limit()]
            limits_of = [limit.share for limit in limits] + [limit.count for limit in limits]
            text = each.unit if each else "", check.expected
            rows.append((verdict.run, now, verdict.gate, *key, failed.get(key), *counts, *limits_of, *text))
    tables = {layout.HISTORY: pl.DataFrame(rows, schema=GATE_HISTORY, orient="row")}
    if profiles := [profile for profile in gate_input.profiles if profile.width]:
        names = pl.lit(verdict.run).alias("run"), pl.lit(verdict.gate).alias("gate")
        tables[layout.PROFILES] = pl.concat(profiles).select(*names, pl.all())
    for table, frame in [*tables.items(), *kept.items()]:
        write_table(reports_dir, table, verdict.gate, verdict.run, frame)


def write_table(reports_dir: Path, table: str, gate: str, run: str, frame: pl.DataFrame) -> None:
    """Write the rows of a gate and run in a table; replace a former attempt's, remove them if there are none now."""
    file = reports_dir / layout.gate_table(table, gate, safe_name(run))
    if frame.is_empty():
        file.unlink(missing_ok=True)
        return
    with replacing(file) as temporary:
        frame.write_parquet(temporary)


def scan(reports_dir: Path) -> pl.LazyFrame:
    """Return the history of all runs, columns as ``schemas.GATE_HISTORY``; empty when no gate has run yet."""
    files = sorted((reports_dir / layout.HISTORY).glob("*.parquet"))
    return scan_tables(files, GATE_HISTORY)


def scan_tables(files: list[Path] | list[bytes], schema: Schema) -> pl.LazyFrame:
    """Return Parquet files, or their contents, as one table; a column that an earlier version did not store is null."""
    if not files:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(files, schema=schema, missing_columns="insert", extra_columns="ignore")
