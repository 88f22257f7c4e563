"""Measures a file: one streaming pass over its columns counts what the checks of a gate need.

Two smaller reads surround the pass. The read before it takes median and MAD from every 16th row (from all rows of a
short file), which changes the share beyond 5 MAD by less than 1e-3; all counts are exact. The read after it covers
only the columns whose minimum, maximum, nulls or NaN look wrong: it counts their defects and fetches the first
defective rows. A clean file therefore costs one pass, and a dirty file little more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.artifacts.schemas import COLUMN_PROFILE, DEFECT_COUNTS
from vpoc_ml.quality.checks import KEPT, Measurement

SAMPLE_STEP = 16
SAMPLE_MIN_ROWS = 65_536
MAD_WIDTH = 5.0
EXAMPLES = 3
STATISTICS = ("min", "max", "mean", "std")

Bounds = tuple[float, float]
"""Smallest and largest value; an infinite bound is none."""
UNBOUNDED: Bounds = (-inf, inf)

Key = tuple[str, str]
"""(check or statistic, column)"""
K = TypeVar("K")

_DISTRIBUTION = frozenset({"soft", "below", "above", "pos_inf", "neg_inf"})  # these name no single rows


@dataclass(frozen=True, slots=True)
class Column:
    """What is known about one column.

    Args:
        name: Column name.
        dtype: Its polars dtype.
        hard: Bounds of the possible values. Widened by one float32 step for Float32.
        soft: Bounds of the usual values.
        above_low: Whether the lower hard bound itself is not allowed either.
        finite_from: First session in which null and NaN are defects ("late"); None: from the first row.
        excused: Rows in which null and NaN are no defect, because the column's inputs do not exist there.
    """

    name: str
    dtype: pl.DataType
    hard: Bounds = UNBOUNDED
    soft: Bounds = UNBOUNDED
    above_low: bool = False
    finite_from: date | None = None
    excused: pl.Expr | None = None

    def widened(self) -> Bounds:
        """Return the hard bounds. A bound such as sqrt(13) moves out by one float32 step, because the stored value is
        rounded and may exceed it; 0 is exact."""
        if self.dtype != pl.Float32:
            return self.hard
        low, high = (np.float32(bound) for bound in self.hard)
        return (
            float(np.nextafter(low, np.float32(-inf))) if low else self.hard[0],
            float(np.nextafter(high, np.float32(inf))) if high else self.hard[1],
        )


@dataclass(frozen=True, slots=True)
class RowRule:
    """A defect that a boolean expression finds row by row; ``column`` is where it is reported."""

    check: str
    column: str
    bad: pl.Expr


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one contract: ``frame`` has one row per column (``schemas.COLUMN_PROFILE``)."""

    contract: str
    rows: int
    frame: pl.DataFrame
    measurements: list[Measurement] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Median:
    """Median and MAD of the finite values in a sample; ``sampled`` is their number."""

    value: float
    mad: float
    sampled: int


@dataclass(frozen=True, slots=True)
class FirstPassStats:
    """Result of the first pass: counts by (check, column), and min, max, mean, std by column.

    The statistics cover all values but NaN, and are None where there is no such value.
    """

    rows: int
    counts: Mapping[Key, int]
    statistics: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Defect:
    """One kind of defect: count, first rows, and for infinite values the statistics of the finite ones beside them.

    ``found`` has the first ``KEPT`` rows (ts, value); None: the defect names no rows.
    """

    count: int = 0
    first: tuple[datetime, ...] = ()
    values: tuple[float, ...] = ()
    statistics: Mapping[str, float | None] = field(default_factory=dict)
    found: pl.DataFrame | None = None

    def measured(self, contract: str, column: str, check: str, rows: int) -> Measurement:
        """Return the measurement of a check of a column with ``rows`` rows."""
        return Measurement(contract, column, check, self.count, rows, self.first, self.values, found=self.found)


def measure_file(
    path: Path, contract: str, columns: Sequence[Column], measure: Callable[[pl.LazyFrame], Profile]
) -> Profile:
    """Return the profile of one file with the measurements of ``checks.FILE_CHECKS``.

    Args:
        path: The Parquet file. If it cannot be read, check "readable" says so and nothing else is measured.
        contract: Contract code of the measurements.
        columns: The declared columns.
        measure: Measures the declared columns that the file has with their declared dtype.
    """
    lazy = pl.scan_parquet(path)
    try:
        schema = lazy.collect_schema()
        profile = measure(declared_columns(lazy, columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        note = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        unreadable = Measurement(contract, ALL, "readable", 1, 1, note=note, unit="files")
        return Profile(contract, 0, pl.DataFrame(), [unreadable])
    measurements = [
        Measurement(contract, ALL, "readable", 0, 1, unit="files"),
        Measurement(contract, ALL, "rows", int(profile.rows == 0), 1, unit="files"),
        *schema_measurements(schema, contract, columns),
    ]
    return Profile(contract, profile.rows, profile.frame, [*measurements, *profile.measurements])


def declared_columns(lazy: pl.LazyFrame, columns: Sequence[Column]) -> pl.LazyFrame:
    """Return the columns that have their declared dtype; nothing else can be measured."""
    schema = lazy.collect_schema()
    return lazy.select(column.name for column in columns if schema.get(column.name) == column.dtype)


def schema_measurements(found: pl.Schema, contract: str, expected: Sequence[Column]) -> list[Measurement]:
    """Measure, per column, whether it exists with its dtype; under ``*`` whether names and order are exact."""
    measurements = []
    for column in expected:
        actual = found.get(column.name)
        wrong = "column is missing" if actual is None else f"was {actual}" if actual != column.dtype else ""
        measurements.append(
            Measurement(contract, column.name, "schema", int(bool(wrong)), 1, note=wrong, unit="columns")
        )
    names = [column.name for column in expected]
    unknown = [name for name in found if name not in names]
    unordered = [name for name in found if name in names] != [name for name in names if name in found]
    note = ", ".join(filter(None, [f"unknown {', '.join(unknown)}" if unknown else "", "other order" * unordered]))
    count = len(unknown) + unordered
    return [*measurements, Measurement(contract, ALL, "schema", count, len(names), note=note, unit="columns")]


def profile_frame(
    frame: pl.LazyFrame | pl.DataFrame,
    contract: str,
    columns: Sequence[Column],
    rules: Sequence[RowRule] = (),
    *,
    time: str = "ts",
) -> Profile:
    """Profile ``frame``; columns that are absent, and rules that need them, are left out.

    Args:
        frame: Rows of one contract, lazily if they come from a file.
        contract: Contract code of the measurements.
        columns: Columns to profile.
        rules: Row-wise defects to count in the same pass.
        time: Name of the timestamp column that identifies defective rows.

    Returns:
        ``Profile``; its frame has contract, column, dtype, rows, the counts of ``schemas.DEFECT_COUNTS`` (i64), min,
        max, mean, std over the finite values (f64), median and mad of the sample (f64), sampled (rows, i64). Its
        measurements are null, nan, infinite, late, outside, soft, beyond, empty and constant per column, and the
        rules. ``soft`` and ``beyond`` describe a distribution, so they name no single rows.
    """
    lazy = frame.lazy()
    schema = lazy.collect_schema()
    present = [column for column in columns if column.name in schema]
    usable = [rule for rule in rules if set(rule.bad.meta.root_names()) <= set(schema)]
    medians = sample_medians(lazy, [column.name for column in present if schema[column.name].is_numeric()])
    stats = first_pass(lazy, present, usable, medians, schema)
    defects = second_pass(lazy, suspected_defects(present, usable, stats, schema), schema, time)
    rows, measurements = [], []
    for column in present:
        row, measured = _column_result(contract, column.name, schema[column.name], stats, defects, medians)
        rows.append(row)
        measurements += measured
    for rule in usable:
        hit = defects.get((rule.check, rule.column), Defect())
        measurements.append(hit.measured(contract, rule.column, rule.check, stats.rows))
    return Profile(contract, stats.rows, pl.DataFrame(rows, schema=COLUMN_PROFILE), measurements)


def sample_medians(lazy: pl.LazyFrame, names: Sequence[str]) -> dict[str, Median]:
    """Return median and MAD per column over the finite values of a systematic sample."""
    rows = int(lazy.select(pl.len()).collect(engine="streaming").item())
    if not names or not rows:
        return {}
    step = SAMPLE_STEP if rows >= SAMPLE_MIN_ROWS else 1
    sample = lazy.select(names).gather_every(step).collect(engine="streaming")
    medians = {}
    for name in names:
        values = sample[name].drop_nulls().to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            median = float(np.median(values))
            medians[name] = Median(median, float(np.median(np.abs(values - median))), int(values.size))
    return medians


def first_pass(
    lazy: pl.LazyFrame,
    columns: Sequence[Column],
    rules: Sequence[RowRule],
    medians: Mapping[str, Median],
    schema: pl.Schema,
) -> FirstPassStats:
    """Read every row once: count null, NaN, values beyond 5 MAD and the defects of the rules; take the statistics."""
    parts: dict[Key, pl.Expr] = {("rows", ALL): pl.len()}
    parts |= {(rule.check, rule.column): rule.bad.fill_null(value=True).sum() for rule in rules}
    for column in columns:
        name, median = column.name, medians.get(column.name)
        parts["null", name] = pl.col(name).null_count()
        if schema[name].is_numeric():
            x = _float(name, schema)
            parts["nan", name] = x.is_nan().sum()
            parts |= {(statistic, name): getattr(x.fill_nan(None), statistic)() for statistic in STATISTICS}
            if median is not None and median.mad > 0:  # a flag or a constant has a MAD of 0 and no outliers
                width = MAD_WIDTH * median.mad
                parts["beyond", name] = (~x.is_between(median.value - width, median.value + width)).sum()
    values = _evaluate(lazy, parts)
    counts = {key: int(value or 0) for key, value in values.items() if key[0] not in STATISTICS}
    statistics: dict[str, dict[str, float | None]] = {column.name: {} for column in columns}
    for (statistic, name), value in values.items():
        if statistic in STATISTICS:
            statistics[name][statistic] = None if value is None or value != value else float(value)
    return FirstPassStats(counts["rows", ALL], counts, statistics)


def suspected_defects(
    columns: Sequence[Column], rules: Sequence[RowRule], stats: FirstPassStats, schema: pl.Schema
) -> dict[Key, pl.Expr]:
    """Return the defects that the first pass does not rule out, as boolean expressions."""
    bad = {(r.check, r.column): r.bad.fill_null(value=True) for r in rules if stats.counts[r.check, r.column]}
    for column in columns:
        name = column.name
        if stats.counts["null", name]:
            bad["null", name] = pl.col(name).is_null()
        if not schema[name].is_numeric():
            continue
        x = _float(name, schema)
        if stats.counts["nan", name]:
            bad["nan", name] = x.is_nan()
        if stats.counts["nan", name] or stats.counts["null", name]:
            late = x.is_null() | x.is_nan()
            late = late if column.finite_from is None else late & (pl.col("session") >= column.finite_from)
            bad["late", name] = late if column.excused is None else late & ~column.excused
        bad |= _suspected_values(column, x, stats.statistics[name])
    return bad


def _suspected_values(column: Column, x: pl.Expr, statistics: Mapping[str, float | None]) -> dict[Key, pl.Expr]:
    """Return the defects of single values that minimum and maximum leave possible."""
    least, most = statistics["min"], statistics["max"]
    if least is None or most is None:
        return {}
    defects: dict[str, pl.Expr] = {}
    if least == -inf or most == inf:
        defects = {"infinite": x.is_infinite(), "pos_inf": x == inf, "neg_inf": x == -inf}
    low, high = column.widened()
    below, above = (x <= low if column.above_low else x < low) & x.is_finite(), (x > high) & x.is_finite()
    if least < low or (column.above_low and least == low) or most > high:
        defects |= {"below": below, "above": above, "outside": below | above}
    if least < column.soft[0] or most > column.soft[1]:
        defects["soft"] = ((x < column.soft[0]) | (x > column.soft[1])) & x.is_finite()
    return {(check, column.name): defect for check, defect in defects.items()}


def second_pass(lazy: pl.LazyFrame, bad: Mapping[Key, pl.Expr], schema: pl.Schema, time: str) -> dict[Key, Defect]:
    """Count the suspected defects and fetch their first rows; a defect that no row has is left out."""
    parts: dict[tuple[str, Key], pl.Expr] = {}
    for key, condition in bad.items():
        check, column = key
        numeric = column in schema and schema[column].is_numeric()
        parts["count", key] = condition.sum()
        if time in schema and check not in _DISTRIBUTION:
            value = _float(column, schema) if numeric else pl.lit(None, dtype=pl.Float64)
            pair = pl.struct(pl.col(time).alias("ts"), value.alias("value"))
            parts["found", key] = pair.filter(condition).head(KEPT).implode()
        if check == "infinite":
            finite = _float(column, schema).filter(_float(column, schema).is_finite())
            parts |= {(statistic, key): getattr(finite, statistic)() for statistic in STATISTICS}
    row = _evaluate(lazy, parts) if parts else {}
    defects = {}
    for key in bad:
        if count := int(row["count", key]):
            pairs = row.get(("found", key))
            found = None if pairs is None else pairs.struct.unnest()
            examples = [] if found is None else found.head(EXAMPLES).rows()
            numeric = key[1] in schema and schema[key[1]].is_numeric()
            values = tuple(float("nan") if value is None else value for _, value in examples)
            defects[key] = Defect(
                count,
                tuple(ts for ts, _ in examples if ts is not None),
                values if numeric else (),
                {statistic: row.get((statistic, key)) for statistic in STATISTICS},
                found,
            )
    return defects


def duplicate_columns(lazy: pl.LazyFrame, profile: pl.DataFrame, least: int) -> dict[str, str]:
    """Return the columns with exactly the values of an earlier one, and that one's name.

    Only columns with more than ``least`` different values count: two flags may agree by chance. The frame is read again
    only if two columns have the same minimum, maximum, median and MAD.

    Args:
        lazy: Rows of one contract.
        profile: Their profile (``schemas.COLUMN_PROFILE``).
        least: Different values that make equality more than chance.
    """
    varying = profile.filter(pl.col("min") < pl.col("max"))
    alike = varying.group_by("min", "max", "median", "mad", maintain_order=True).agg("column")
    found: dict[str, str] = {}
    for names in alike.filter(pl.col("column").list.len() > 1)["column"].to_list():
        values = lazy.select(names).collect()
        for number, name in enumerate(names):
            same = [other for other in names[:number] if values[name].equals(values[other], null_equal=True)]
            if same and values[name].n_unique() > least:
                found[name] = same[0]
    return found


def session_starts(lazy: pl.LazyFrame) -> list[tuple[date, int]]:
    """Return each session of a frame with the number of rows before it, in order."""
    counts = lazy.drop_nulls("session").group_by("session").agg(pl.len().alias("rows")).sort("session")
    before = counts.select("session", pl.col("rows").cum_sum() - pl.col("rows"))
    return list(before.collect(engine="streaming").iter_rows())


def _column_result(
    contract: str,
    name: str,
    dtype: pl.DataType,
    stats: FirstPassStats,
    defects: Mapping[Key, Defect],
    medians: Mapping[str, Median],
) -> tuple[dict[str, Any], list[Measurement]]:
    """Return the row of the profile and the measurements of one column."""
    checks = ("null", "nan", "infinite", "late", "outside", "soft") if dtype.is_numeric() else ("null",)
    hits = {check: defects.get((check, name), Defect()) for check in (*checks, *DEFECT_COUNTS)}
    measurements = [hits[check].measured(contract, name, check, stats.rows) for check in checks]
    row: dict[str, Any] = {check: hits[check].count for check in DEFECT_COUNTS}
    row |= {"contract": contract, "column": name, "dtype": str(dtype), "rows": stats.rows, "sampled": 0}
    if not dtype.is_numeric():
        return row, measurements
    # the first pass also counts NaN and Inf as beyond 5 MAD; they have checks of their own
    beyond = stats.counts.get(("beyond", name), 0)
    row["beyond"] = beyond - stats.counts["nan", name] - hits["infinite"].count if beyond else 0
    statistics = hits["infinite"].statistics or stats.statistics[name]
    row |= statistics
    if (median := medians.get(name)) is not None:
        row |= {"median": median.value, "mad": median.mad, "sampled": median.sampled}
    empty = statistics["min"] is None
    constant = not empty and statistics["min"] == statistics["max"] and stats.rows > 1
    values = (statistics["min"],) if constant and statistics["min"] is not None else ()
    measurements += [
        Measurement(contract, name, "beyond", row["beyond"], stats.rows),
        Measurement(contract, name, "empty", max(stats.rows, 1) if empty else 0, stats.rows),
        Measurement(contract, name, "constant", stats.rows if constant else 0, stats.rows, values=values),
    ]
    return row, measurements


def _evaluate(lazy: pl.LazyFrame, parts: Mapping[K, pl.Expr]) -> dict[K, Any]:
    """Return the value of every expression, by key, in one streaming read; that of a list is a series."""
    expressions = [part.alias(str(number)) for number, part in enumerate(parts.values())]
    found = lazy.select(expressions).collect(engine="streaming")
    return {key: column[0] for key, column in zip(parts, found.iter_columns(), strict=True)}


def _float(column: str, schema: pl.Schema) -> pl.Expr:
    return pl.col(column) if schema[column].is_float() else pl.col(column).cast(pl.Float64)
