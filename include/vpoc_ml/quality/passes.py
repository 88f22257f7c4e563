"""The reads of the column profile, as polars expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

SAMPLE_STEP = 16
SAMPLE_MIN_ROWS = 65_536
MAD_WIDTH = 5.0
EXAMPLES = 3

Bounds = tuple[float | None, float | None]
Key = tuple[str, str]
"""(check, column)"""

_FIRST = ("null", "nan", "min", "max", "mean", "std", "beyond")
_DISTRIBUTION = frozenset({"soft", "below", "above", "pos_inf", "neg_inf"})


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
        excused: Rows in which null and NaN are no defect, because what the column is computed from does not exist.
    """

    name: str
    dtype: pl.DataType
    hard: Bounds = (None, None)
    soft: Bounds = (None, None)
    above_low: bool = False
    finite_from: date | None = None
    excused: pl.Expr | None = None

    def widened(self) -> Bounds:
        """Return the hard bounds; sqrt(13) stored as float32 may exceed sqrt(13), so step out once (0 is exact)."""
        if self.dtype != pl.Float32:
            return self.hard
        low, high = (None if bound is None else np.float32(bound) for bound in self.hard)
        return (
            float(np.nextafter(low, np.float32(-np.inf))) if low else self.hard[0],
            float(np.nextafter(high, np.float32(np.inf))) if high else self.hard[1],
        )


@dataclass(frozen=True, slots=True)
class RowRule:
    """A defect that a boolean expression finds row by row; ``column`` is where it is reported."""

    check: str
    column: str
    bad: pl.Expr


@dataclass(frozen=True, slots=True)
class Median:
    """Median and MAD of the finite values of a sample of ``sampled`` rows."""

    value: float
    mad: float
    sampled: int


@dataclass(frozen=True, slots=True)
class FirstPassStats:
    """Result of the first pass."""

    rows: int
    values: Mapping[str, Any]

    def get(self, name: str, column: str) -> int:
        """Return a count, 0 if there is none."""
        return int(self.values.get(_alias(name, column)) or 0)

    def finite(self, column: str) -> dict[str, float | None]:
        """Return min, max, mean and std of a column that holds no infinity; NaN (nothing there) becomes None."""
        found = {name: self.values.get(_alias(name, column)) for name in ("min", "max", "mean", "std")}
        return {name: None if value is None or value != value else float(value) for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Found:
    """One defect: its count, first rows, and the statistics of the finite values beside infinite ones."""

    count: int
    first: tuple[datetime, ...] = ()
    values: tuple[float, ...] = ()
    finite: dict[str, float | None] = field(default_factory=dict)


def medians(lazy: pl.LazyFrame, names: Sequence[str]) -> dict[str, Median]:
    """Return median and MAD per column over the finite values of a systematic sample."""
    rows = int(lazy.select(pl.len()).collect(engine="streaming").item())
    if not names or not rows:
        return {}
    step = SAMPLE_STEP if rows >= SAMPLE_MIN_ROWS else 1
    sample = lazy.select(names).gather_every(step).collect(engine="streaming")
    result = {}
    for name in names:
        values = sample[name].drop_nulls().to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            median = float(np.median(values))
            result[name] = Median(median, float(np.median(np.abs(values - median))), int(values.size))
    return result


def first(
    lazy: pl.LazyFrame,
    columns: Sequence[Column],
    rules: Sequence[RowRule],
    known: Mapping[str, Median],
    schema: pl.Schema,
) -> FirstPassStats:
    """Read everything once: counts of null and NaN, extremes, moments, values beyond 5 MAD, defects of the rules."""
    expressions = [pl.len().alias("rows")]
    expressions += [rule.bad.fill_null(value=True).sum().alias(_alias(rule.check, rule.column)) for rule in rules]
    for column in columns:
        numeric = schema[column.name].is_numeric()
        parts = _first_parts(column.name, known.get(column.name), schema) if numeric else {}
        parts["null"] = pl.col(column.name).null_count()
        expressions += [part.alias(_alias(name, column.name)) for name, part in parts.items()]
    row = lazy.select(expressions).collect(engine="streaming").row(0, named=True)
    return FirstPassStats(int(row["rows"]), row)


def suspected_defects(
    columns: Sequence[Column], rules: Sequence[RowRule], seen: FirstPassStats, schema: pl.Schema
) -> dict[Key, pl.Expr]:
    """Return the defects that the first pass does not rule out, as boolean expressions."""
    bad = {(r.check, r.column): r.bad.fill_null(value=True) for r in rules if seen.get(r.check, r.column)}
    for column in columns:
        if seen.get("null", column.name):
            bad["null", column.name] = pl.col(column.name).is_null()
        if schema[column.name].is_numeric():
            bad |= {(check, column.name): expression for check, expression in _suspected(column, seen, schema).items()}
    return bad


def second(lazy: pl.LazyFrame, bad: Mapping[Key, pl.Expr], schema: pl.Schema, time: str) -> dict[Key, Found]:
    """Count the suspected defects and fetch their first rows; what turns out to be none is left out."""
    if not bad:
        return {}
    expressions = []
    for key, condition in bad.items():
        check, column = key
        expressions.append(condition.sum().alias(_alias("count", *key)))
        if time in schema and check not in _DISTRIBUTION:
            value = _float(column, schema) if _is_numeric(column, schema) else pl.lit(None, dtype=pl.Float64)
            pair = pl.struct(pl.col(time).alias("ts"), value.alias("value"))
            expressions.append(pair.filter(condition).head(EXAMPLES).implode().alias(_alias("first", *key)))
        if check == "infinite":
            finite = _float(column, schema).filter(_float(column, schema).is_finite())
            expressions += [getattr(finite, name)().alias(_alias(name, *key)) for name in ("min", "max", "mean", "std")]
    row = lazy.select(expressions).collect(engine="streaming").row(0, named=True)
    return {key: _found(key, row, schema) for key in bad if row[_alias("count", *key)]}


# ---------------------------------------------------------------- expressions


def _alias(*parts: str) -> str:
    return "|".join(parts)


def _is_numeric(column: str, schema: pl.Schema) -> bool:
    return column in schema and schema[column].is_numeric()


def _float(column: str, schema: pl.Schema) -> pl.Expr:
    return pl.col(column) if schema[column].is_float() else pl.col(column).cast(pl.Float64)


def _first_parts(name: str, median: Median | None, schema: pl.Schema) -> dict[str, pl.Expr]:
    x = _float(name, schema)
    present = x.fill_nan(None)
    parts = {"nan": x.is_nan().sum(), "min": present.min(), "max": present.max()}
    parts |= {"mean": present.mean(), "std": present.std()}
    if median is not None and median.mad > 0:  # a MAD of 0 (a flag, a constant) has no outliers to speak of
        width = MAD_WIDTH * median.mad
        parts["beyond"] = (~x.is_between(median.value - width, median.value + width)).sum()
    return parts


def _suspected(column: Column, seen: FirstPassStats, schema: pl.Schema) -> dict[str, pl.Expr]:
    """Return the numeric defects of a column that its null, NaN, minimum and maximum leave possible."""
    x = _float(column.name, schema)
    stats = seen.finite(column.name)
    least, most = stats["min"], stats["max"]
    doubts: dict[str, pl.Expr] = {}
    if seen.get("nan", column.name):
        doubts["nan"] = x.is_nan()
    if seen.get("nan", column.name) or seen.get("null", column.name):
        late = x.is_null() | x.is_nan()
        late = late if column.finite_from is None else late & (pl.col("session") >= column.finite_from)
        doubts["late"] = late if column.excused is None else late & ~column.excused
    if least is None or most is None:
        return doubts
    if least == -np.inf or most == np.inf:
        doubts |= {"infinite": x.is_infinite(), "pos_inf": x == np.inf, "neg_inf": x == -np.inf}
    low, high = column.widened()
    below = pl.lit(value=False) if low is None else x <= low if column.above_low else x < low
    above = pl.lit(value=False) if high is None else x > high
    if (low is not None and least <= low) or (high is not None and most > high):
        doubts |= {"below": below, "above": above, "outside": below | above}
    doubts |= _soft_doubt(column, least, most, x)
    return {name: doubt & x.is_finite() if name in _FINITE_ONLY else doubt for name, doubt in doubts.items()}


_FINITE_ONLY = frozenset({"below", "above", "outside", "soft"})


def _soft_doubt(column: Column, least: float, most: float, x: pl.Expr) -> dict[str, pl.Expr]:
    low = -np.inf if column.soft[0] is None else column.soft[0]
    high = np.inf if column.soft[1] is None else column.soft[1]
    return {"soft": (x < low) | (x > high)} if least < low or most > high else {}


def _found(key: Key, row: Mapping[str, Any], schema: pl.Schema) -> Found:
    pairs = row.get(_alias("first", *key)) or []
    stamps = tuple(pair["ts"] for pair in pairs if pair["ts"] is not None)
    values = tuple(float("nan") if pair["value"] is None else float(pair["value"]) for pair in pairs)
    finite = {name: row.get(_alias(name, *key)) for name in ("min", "max", "mean", "std")}
    return Found(int(row[_alias("count", *key)]), stamps, values if _is_numeric(key[1], schema) else (), finite)
