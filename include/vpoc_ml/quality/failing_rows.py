"""The rows in which checks failed, and the bars around them, as the gate found them.

The files that a gate reads are replaced by the next run, so a page could not show them later. Only failed checks cost
anything. A gate keeps at most ``ALL_KEPT`` rows, and bars around the first ``SHOWN`` rows of each check.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.gate_report import Cause, Severity
from vpoc_ml.artifacts.schemas import FAILING_BARS, FAILING_ROWS, TIME
from vpoc_ml.quality.checks import GateInput, Measurement

ALL_KEPT = 300_000
SHOWN = 50
"""Rows of a check that a page shows with the bars around them."""
AROUND = 5
"""Bars before and after a row that a page shows."""
_KEYS = ("contract", "column", "check")


def failing_rows(gate_input: GateInput, failed: Mapping[tuple[str, str, str], Severity]) -> pl.DataFrame:
    """Return the rows of the failed checks (``schemas.FAILING_ROWS``); checks that name no rows have none.

    Args:
        gate_input: The measurements of the gate.
        failed: (contract, column, check) -> worst severity that failed.
    """
    measured = {(each.contract, each.column, each.check): each for each in gate_input.measurements}
    parts, room = [pl.DataFrame(schema=FAILING_ROWS)], ALL_KEPT
    for key, severity in failed.items():
        rows = _rows(measured[key]) if key in measured else None
        if rows is None and key in measured and gate_input.rows is not None:
            rows = gate_input.rows(*key)
        if rows is None or rows.is_empty() or not room:
            continue
        names = dict(zip((*_KEYS, "severity"), (*key, severity), strict=True))
        known = rows.head(room).with_columns(**{name: pl.lit(value) for name, value in names.items()})
        absent = [name for name in FAILING_ROWS if name not in known.columns]
        parts.append(
            known.with_columns(pl.lit(None).alias(name) for name in absent).select(*FAILING_ROWS).cast(_SCHEMA)
        )
        room -= parts[-1].height
    return pl.concat(parts)


_SCHEMA = pl.Schema(FAILING_ROWS)


def _rows(found: Measurement) -> pl.DataFrame | None:
    """Return the rows that a measurement names: all that it kept, else the first ones."""
    rows = found.found
    if rows is not None and rows.schema.get("ts") == pl.Date:  # a file with one row a session
        return rows.rename({"ts": "session"})
    if rows is not None or not found.first:
        return rows
    days = [each for each in found.first if isinstance(each, date) and not isinstance(each, datetime)]
    if days:
        return pl.DataFrame({"session": days})
    values = [*found.values, *[None] * len(found.first)][: len(found.first)]
    return pl.DataFrame({"ts": found.first, "value": values}, schema={"ts": TIME, "value": pl.Float64})


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of the contracts with failing rows, by contract (``schemas.FAILING_BARS``)."""

    of: Mapping[str, pl.DataFrame]

    @classmethod
    def read(cls, files: Mapping[str, Path], rows: pl.DataFrame) -> Bars:
        """Read the bars of the contracts in ``rows``; a file that cannot be read, or lacks a column, is left out."""
        found = {}
        for code in rows["contract"].unique():
            try:
                bars = pl.read_parquet(files[code]).with_row_index("row")
                found[code] = bars.select(*FAILING_BARS).cast(pl.Schema(FAILING_BARS))
            except (KeyError, OSError, pl.exceptions.PolarsError):  # the gate has a failure of its own for these
                continue
        return cls(found)

    def around(self, rows: pl.DataFrame, causes: Iterable[Cause]) -> pl.DataFrame:
        """Return the bars that a page shows: those around the first rows of each check, and around the causes."""
        parts = [pl.DataFrame(schema=FAILING_BARS)]
        for code, bars in self.of.items():
            own = rows.filter(pl.col("contract") == code, pl.col("ts").is_not_null())
            first = own.group_by("column", "check", maintain_order=True).head(SHOWN)["ts"]
            explaining = [datetime.fromisoformat(cause.ts) for cause in causes if cause.contract == code]
            wanted = pl.concat([first, pl.Series(explaining, dtype=TIME)]).unique()
            at = bars.filter(pl.col("ts").is_in(wanted.implode()))["row"]
            near = pl.concat([at + step for step in range(-AROUND, AROUND + 1)]).unique()
            parts.append(bars.filter(pl.col("row").is_in(near.implode())))
        return pl.concat(parts)
