"""The column profile: one streaming pass over a frame finds out what the checks ask about.

Two smaller reads surround the pass. Before it, median and MAD are taken from every 16th row (all rows of a
short file), which moves the share beyond 5 MAD by less than 1e-3; every count is exact. After it, only the
columns in which minimum, maximum, null or NaN look wrong are read again, to count their defects and to fetch
the first failing rows. So a clean file costs one pass, and a dirty one little more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from vpoc_ml.quality import passes
from vpoc_ml.quality.checks import ALL, Measurement
from vpoc_ml.quality.passes import Column, RowRule

COUNTS = ("null", "nan", "pos_inf", "neg_inf", "late", "below", "above", "soft", "beyond")
STATISTICS = ("min", "max", "mean", "std")

PROFILE_SCHEMA: dict[str, Any] = {
    "contract": pl.String,
    "column": pl.String,
    "dtype": pl.String,
    "rows": pl.Int64,
    **dict.fromkeys(COUNTS, pl.Int64),
    **dict.fromkeys((*STATISTICS, "median", "mad"), pl.Float64),
    "sampled": pl.Int64,
}


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one contract: ``frame`` has one row per column, ``tallies`` what the checks look up."""

    contract: str
    rows: int
    frame: pl.DataFrame
    measurements: list[Measurement] = field(default_factory=list)


def profile_frame(
    frame: pl.LazyFrame | pl.DataFrame,
    contract: str,
    columns: Sequence[Column],
    rules: Sequence[RowRule] = (),
    *,
    time: str = "ts",
) -> Profile:
    """Profile ``frame``; columns that are absent, and rules about them, are left out.

    Args:
        frame: Rows of one contract, lazily if they come from a file.
        contract: Contract code the tallies carry.
        columns: Columns to profile.
        rules: Row-wise defects to count in the same pass.
        time: Name of the timestamp column that marks failing rows.

    Returns:
        ``Profile``; its frame has contract, column, dtype, rows, the counts of ``COUNTS`` (i64), min, max,
        mean, std over the finite values (f64), median and mad of the sample (f64), sampled (rows, i64). Its
        tallies are null, nan, infinite, late, outside, soft, beyond, empty and constant per column, and the
        rules. ``soft`` and ``beyond`` judge a distribution, so they name no single rows.
    """
    lazy = frame.lazy()
    schema = lazy.collect_schema()
    present = [column for column in columns if column.name in schema]
    usable = [rule for rule in rules if set(rule.bad.meta.root_names()) <= set(schema)]
    medians = passes.medians(lazy, [c.name for c in present if schema[c.name].is_numeric()])
    seen = passes.first(lazy, present, usable, medians, schema)
    found = passes.second(lazy, passes.suspected_defects(present, usable, seen, schema), schema, time)
    rows = [_row(contract, column, seen, found, medians, schema) for column in present]
    measurements = [
        measurement for column in present for measurement in _tallies(contract, column, seen, found, schema)
    ]
    measurements += [_tally(contract, rule.column, rule.check, seen.rows, found) for rule in usable]
    whole = pl.DataFrame(rows, schema=PROFILE_SCHEMA)
    return Profile(contract, seen.rows, whole, [*measurements, *_liveness(whole, schema)])


def schema_tallies(
    found: Mapping[str, pl.DataType] | pl.Schema, contract: str, expected: Sequence[Column]
) -> list[Measurement]:
    """Tally, per column, whether it is there with its dtype; under ``*`` whether names and order are exact."""
    measurements = []
    for column in expected:
        actual = found.get(column.name)
        wrong = "column is missing" if actual is None else f"was {actual}" if actual != column.dtype else ""
        measurements.append(
            Measurement(contract, column.name, "schema", int(bool(wrong)), 1, note=wrong, unit="columns")
        )
    names = [column.name for column in expected]
    strange = [name for name in found if name not in names]
    unordered = [name for name in found if name in names] != [name for name in names if name in found]
    note = ", ".join(filter(None, [f"unknown {', '.join(strange)}" if strange else "", "other order" * unordered]))
    return [
        *measurements,
        Measurement(contract, ALL, "schema", len(strange) + unordered, len(names), note=note, unit="columns"),
    ]


def _tallies(
    contract: str,
    column: Column,
    seen: passes.FirstPassStats,
    found: Mapping[passes.Key, passes.Found],
    schema: pl.Schema,
) -> list[Measurement]:
    name, numeric = column.name, schema[column.name].is_numeric()
    checks = ("null", "nan", "infinite", "late", "outside", "soft") if numeric else ("null",)
    measurements = [_tally(contract, name, check, seen.rows, found) for check in checks]
    return (
        [*measurements, Measurement(contract, name, "beyond", _beyond(name, seen, found), seen.rows)]
        if numeric
        else measurements
    )


def _tally(contract: str, column: str, check: str, rows: int, found: Mapping[passes.Key, passes.Found]) -> Measurement:
    hit = found.get((check, column), passes.Found(0))
    return Measurement(contract, column, check, hit.count, rows, hit.first, hit.values)


def _beyond(name: str, seen: passes.FirstPassStats, found: Mapping[passes.Key, passes.Found]) -> int:
    """The first pass counts NaN and Inf as beyond 5 MAD too; they have checks of their own."""
    counted = seen.get("beyond", name)
    infinite = found.get(("infinite", name), passes.Found(0)).count
    return counted - seen.get("nan", name) - infinite if counted else 0


def _row(
    contract: str,
    column: Column,
    seen: passes.FirstPassStats,
    found: Mapping[passes.Key, passes.Found],
    medians: Mapping[str, passes.Median],
    schema: pl.Schema,
) -> dict[str, Any]:
    name = column.name
    counts = {check: found[check, name].count if (check, name) in found else 0 for check in COUNTS}
    numeric = schema[name].is_numeric()
    finite = found[("infinite", name)].finite if ("infinite", name) in found else seen.finite(name) if numeric else {}
    median = medians.get(name)
    return {
        "contract": contract,
        "column": name,
        "dtype": str(schema[name]),
        "rows": seen.rows,
        **counts,
        "beyond": _beyond(name, seen, found) if numeric else 0,
        **{statistic: finite.get(statistic) for statistic in STATISTICS},
        "median": median.value if median else None,
        "mad": median.mad if median else None,
        "sampled": median.sampled if median else 0,
    }


def _liveness(profile: pl.DataFrame, schema: pl.Schema) -> list[Measurement]:
    """Tally columns without any finite value ("empty") and columns with a single one ("constant")."""
    measurements = []
    for row in profile.iter_rows(named=True):
        if schema[row["column"]].is_numeric():
            contract, column, rows = row["contract"], row["column"], row["rows"]
            empty = row["min"] is None
            constant = not empty and row["min"] == row["max"] and rows > 1
            measurements.append(Measurement(contract, column, "empty", max(rows, 1) if empty else 0, rows))
            values = (row["min"],) if constant else ()
            measurements.append(Measurement(contract, column, "constant", rows if constant else 0, rows, values=values))
    return measurements
