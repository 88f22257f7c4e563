"""The column profile: one streaming pass over a frame counts what the checks ask about.

Two small helpers surround the pass. Median and MAD come from every 16th row (all rows of a short file),
which moves the share beyond 5 MAD by less than 1e-3; the counts themselves are exact. Only columns in
which something was counted are read again, for their first failing rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.quality.checks import ALL, Tally

SAMPLE_STEP = 16
SAMPLE_MIN_ROWS = 65_536
MAD_WIDTH = 5.0
EXAMPLES = 3

Bounds = tuple[float | None, float | None]

COUNTS = ("null", "nan", "pos_inf", "neg_inf", "infinite", "late", "below", "above", "outside", "soft", "beyond")
STATISTICS = ("min", "max", "mean", "std")


@dataclass(frozen=True, slots=True)
class Column:
    """What is known about one column.

    Args:
        name: Column name.
        dtype: Its polars dtype.
        hard: Bounds no finite value may leave; None is open. Widened by one float32 step for Float32.
        soft: Bounds usual values stay in.
        above_low: The lower hard bound itself is not allowed either.
        finite_from: First session in which null and NaN are defects ("late"); None: from the first row.
    """

    name: str
    dtype: pl.DataType
    hard: Bounds = (None, None)
    soft: Bounds = (None, None)
    above_low: bool = False
    finite_from: date | None = None


@dataclass(frozen=True, slots=True)
class RowRule:
    """A defect that a boolean expression finds row by row; ``column`` is where it is reported."""

    check: str
    column: str
    bad: pl.Expr


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one contract: ``frame`` has one row per column, ``tallies`` what the checks look up."""

    contract: str
    rows: int
    frame: pl.DataFrame
    tallies: list[Tally] = field(default_factory=list)


def profile_parquet(
    path: Path, contract: str, columns: Sequence[Column], rules: Sequence[RowRule] = (), *, time: str = "ts"
) -> Profile:
    """Profile one Parquet file; see ``profile_frame``."""
    return profile_frame(pl.scan_parquet(path), contract, columns, rules, time=time)


def profile_frame(
    frame: pl.LazyFrame | pl.DataFrame,
    contract: str,
    columns: Sequence[Column],
    rules: Sequence[RowRule] = (),
    *,
    time: str = "ts",
) -> Profile:
    """Profile ``frame`` in one streaming pass; columns that are absent are left out.

    Args:
        frame: Rows of one contract, lazily if they come from a file.
        contract: Contract code the tallies carry.
        columns: Columns to profile.
        rules: Row-wise defects to count in the same pass.
        time: Name of the timestamp column that marks failing rows.

    Returns:
        ``Profile``; its frame has contract, column, dtype, rows, the counts of ``COUNTS`` (i64), min, max,
        mean, std over the finite values (f64), median and mad of the sample (f64), sampled (rows, i64).
    """
    lazy = frame.lazy()
    schema = lazy.collect_schema()
    present = [column for column in columns if column.name in schema]
    rows = int(lazy.select(pl.len()).collect(engine="streaming").item())
    medians = _medians(lazy, [c.name for c in present if schema[c.name].is_numeric()], rows)
    defects = _defects(present, schema, medians)
    usable = [rule for rule in rules if set(rule.bad.meta.root_names()) <= set(schema.names())]
    defects |= {(rule.check, rule.column): rule.bad.fill_null(value=True) for rule in usable}
    found = lazy.select(_pass(defects, present, schema)).collect(engine="streaming").row(0, named=True)
    counts = {key: int(found[_alias(*key)] or 0) for key in defects}
    examples = _examples(lazy, {key: bad for key, bad in defects.items() if counts[key]}, schema, time)
    tallies = [
        Tally(contract, column, check, count, rows, *examples.get((check, column), ((), ())))
        for (check, column), count in counts.items()
    ]
    table = [_profile_row(contract, column, schema, rows, counts, found, medians) for column in present]
    whole = pl.DataFrame(table, schema=PROFILE_SCHEMA)
    return Profile(contract, rows, whole, [*tallies, *_liveness(whole)])


PROFILE_SCHEMA: dict[str, Any] = {
    "contract": pl.String,
    "column": pl.String,
    "dtype": pl.String,
    "rows": pl.Int64,
    **dict.fromkeys(COUNTS, pl.Int64),
    **dict.fromkeys((*STATISTICS, "median", "mad"), pl.Float64),
    "sampled": pl.Int64,
}


def schema_tallies(
    found: Mapping[str, pl.DataType] | pl.Schema, contract: str, expected: Sequence[Column]
) -> list[Tally]:
    """Tally, per column, whether it is there with its dtype; under ``*`` whether names and order are exact."""
    tallies = []
    for column in expected:
        actual = found.get(column.name)
        wrong = "column is missing" if actual is None else f"was {actual}" if actual != column.dtype else ""
        tallies.append(Tally(contract, column.name, "schema", int(bool(wrong)), 1, note=wrong))
    names = [column.name for column in expected]
    strange = [name for name in found if name not in names]
    unordered = [name for name in found if name in names] != [name for name in names if name in found]
    note = ", ".join(filter(None, [f"unknown {', '.join(strange)}" if strange else "", "other order" * unordered]))
    return [*tallies, Tally(contract, ALL, "schema", len(strange) + unordered, len(names), note=note)]


def _liveness(profile: pl.DataFrame) -> list[Tally]:
    """Tally columns without any finite value ("empty") and columns with a single one ("constant")."""
    tallies = []
    for row in profile.iter_rows(named=True):
        if row["dtype"] not in _NUMERIC_NAMES:
            continue
        empty = row["min"] is None
        constant = not empty and row["min"] == row["max"] and row["rows"] > 1
        rows, values = row["rows"], (row["min"],) if constant else ()
        tallies.append(Tally(row["contract"], row["column"], "empty", max(rows, 1) if empty else 0, rows))
        tallies.append(Tally(row["contract"], row["column"], "constant", rows if constant else 0, rows, values=values))
    return tallies


_NUMERIC_NAMES = frozenset(str(dtype) for dtype in pl.datatypes.group.NUMERIC_DTYPES)

# ---------------------------------------------------------------- the pass


def _alias(check: str, column: str) -> str:
    return f"{check}|{column}"


def _medians(lazy: pl.LazyFrame, names: Sequence[str], rows: int) -> dict[str, tuple[float, float, int]]:
    """Return median, MAD and sample size per column over the finite values of a systematic sample."""
    if not names or not rows:
        return {}
    step = SAMPLE_STEP if rows >= SAMPLE_MIN_ROWS else 1
    sample = lazy.select(pl.col(names).cast(pl.Float64)).gather_every(step).collect(engine="streaming")
    result = {}
    for name in names:
        values = sample[name].drop_nulls().to_numpy()
        values = values[np.isfinite(values)]
        if values.size:
            median = float(np.median(values))
            result[name] = (median, float(np.median(np.abs(values - median))), int(values.size))
    return result


def _defects(
    columns: Sequence[Column], schema: pl.Schema, medians: Mapping[str, tuple[float, float, int]]
) -> dict[tuple[str, str], pl.Expr]:
    """Return the boolean expression of every count, keyed by (count, column)."""
    defects: dict[tuple[str, str], pl.Expr] = {}
    for column in columns:
        x = pl.col(column.name)
        defects["null", column.name] = x.is_null()
        if schema[column.name].is_numeric():
            for check, bad in _numeric_defects(column, medians.get(column.name)).items():
                defects[check, column.name] = bad.fill_null(value=False)
    return defects


def _numeric_defects(column: Column, median: tuple[float, float, int] | None) -> dict[str, pl.Expr]:
    x = pl.col(column.name).cast(pl.Float64)
    finite = x.is_finite()
    late = x.is_null() | x.is_nan()
    if column.finite_from is not None:
        late = late & (pl.col("session") >= column.finite_from)
    low, high = _widened(column)
    soft_low, soft_high = column.soft
    never = pl.lit(value=False) & finite
    below = never if low is None else x <= low if column.above_low else x < low
    defects = {
        "nan": x.is_nan(),
        "pos_inf": x == float("inf"),
        "neg_inf": x == float("-inf"),
        "infinite": x.is_infinite(),
        "late": late,
        "below": finite & below,
        "above": finite & (x > high) if high is not None else never,
        "outside": never,
        "soft": finite & ((x < _or(soft_low, -np.inf)) | (x > _or(soft_high, np.inf))),
        "beyond": never,
    }
    defects["outside"] = defects["below"] | defects["above"]
    if median is not None and median[1] > 0:  # a MAD of 0 (a flag, a constant) has no outliers to speak of
        defects["beyond"] = finite & ((x - median[0]).abs() > MAD_WIDTH * median[1])
    return defects


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _widened(column: Column) -> Bounds:
    """Return the hard bounds; sqrt(13) stored as float32 may exceed sqrt(13), so step out once (0 is exact)."""
    if column.dtype != pl.Float32:
        return column.hard
    low, high = (None if bound is None else np.float32(bound) for bound in column.hard)
    return (
        float(np.nextafter(low, np.float32(-np.inf))) if low else column.hard[0],
        float(np.nextafter(high, np.float32(np.inf))) if high else column.hard[1],
    )


def _pass(defects: Mapping[tuple[str, str], pl.Expr], columns: Sequence[Column], schema: pl.Schema) -> list[pl.Expr]:
    expressions = [bad.sum().alias(_alias(*key)) for key, bad in defects.items()]
    for column in columns:
        if schema[column.name].is_numeric():
            x = pl.col(column.name).cast(pl.Float64)
            finite = pl.when(x.is_finite()).then(x)
            expressions += [getattr(finite, name)().alias(_alias(name, column.name)) for name in STATISTICS]
    return expressions


def _examples(
    lazy: pl.LazyFrame, bad: Mapping[tuple[str, str], pl.Expr], schema: pl.Schema, time: str
) -> dict[tuple[str, str], tuple[tuple[datetime, ...], tuple[float, ...]]]:
    """Return the first failing timestamps and values of every defect that was found."""
    if not bad or time not in schema:
        return {}
    expressions = []
    for key, condition in bad.items():
        numeric = key[1] in schema and schema[key[1]].is_numeric()
        value = pl.col(key[1]).cast(pl.Float64) if numeric else pl.lit(None, dtype=pl.Float64)
        pair = pl.struct(pl.col(time).alias("ts"), value.alias("value"))
        expressions.append(pair.filter(condition).head(EXAMPLES).implode().alias(_alias(*key)))
    found = lazy.select(expressions).collect(engine="streaming").row(0, named=True)
    return {key: _unzipped(found[_alias(*key)], schema.get(key[1])) for key in bad}


def _unzipped(
    pairs: Sequence[Mapping[str, Any]], dtype: pl.DataType | None
) -> tuple[tuple[datetime, ...], tuple[float, ...]]:
    stamps = tuple(pair["ts"] for pair in pairs if pair["ts"] is not None)
    if dtype is None or not dtype.is_numeric():
        return stamps, ()
    return stamps, tuple(float("nan") if pair["value"] is None else pair["value"] for pair in pairs)


def _profile_row(
    contract: str,
    column: Column,
    schema: pl.Schema,
    rows: int,
    counts: Mapping[tuple[str, str], int],
    found: Mapping[str, Any],
    medians: Mapping[str, tuple[float, float, int]],
) -> dict[str, Any]:
    median, mad, sampled = medians.get(column.name, (None, None, 0))
    return {
        "contract": contract,
        "column": column.name,
        "dtype": str(schema[column.name]),
        "rows": rows,
        **{name: counts.get((name, column.name), 0) for name in COUNTS},
        **{name: found.get(_alias(name, column.name)) for name in STATISTICS},
        "median": median,
        "mad": mad,
        "sampled": sampled,
    }
