"""What the three gates share: measuring one contract's file, the checks every column gets, the conclusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.gate_report import Failure, Verdict, safe_name
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.quality import history
from vpoc_ml.quality.checks import ALL, SEVERITIES, Check, Measurement, Severity
from vpoc_ml.quality.passes import Column
from vpoc_ml.quality.profile import Profile, schema_tallies
from vpoc_ml.reports import gates_page

FILE_CHECKS = (
    Check("readable", ALL, "a Parquet file that can be read"),
    Check("schema", ALL, "exactly the declared columns in their order"),
    Check("rows", ALL, "at least one row"),
)

NOT_COUNTED = "not counted"

Measure = Callable[[pl.LazyFrame], Profile]


@dataclass(frozen=True, slots=True)
class GateInput:
    """A gate's questions and what was measured for them."""

    gate: str
    contracts: tuple[str, ...]
    checks: Sequence[Check]
    measurements: Sequence[Measurement]
    profiles: Sequence[pl.DataFrame] = ()


def measure_file(path: Path, contract: str, columns: Sequence[Column], measure: Measure) -> Profile:
    """Return the profile of one file with the tallies of ``FILE_CHECKS``; an unreadable file is a tally too."""
    lazy = pl.scan_parquet(path)
    try:
        schema = lazy.collect_schema()
        profile = measure(as_declared(lazy, columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        note = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        return Profile(
            contract, 0, pl.DataFrame(), [Measurement(contract, ALL, "readable", 1, 1, note=note, unit="files")]
        )
    measurements = [
        Measurement(contract, ALL, "readable", 0, 1, unit="files"),
        Measurement(contract, ALL, "rows", int(profile.rows == 0), 1, unit="files"),
        *schema_tallies(schema, contract, columns),
    ]
    return Profile(contract, profile.rows, profile.frame, [*measurements, *profile.measurements])


def as_declared(lazy: pl.LazyFrame, columns: Sequence[Column]) -> pl.LazyFrame:
    """Return the columns that have their declared dtype; nothing else can be measured."""
    schema = lazy.collect_schema()
    return lazy.select(column.name for column in columns if schema.get(column.name) == column.dtype)


def schema_check(column: Column) -> Check:
    """Ask for the column with its dtype."""
    return Check("schema", column.name, f"a column of type {column.dtype}")


def conclude(asked: GateInput, *, run: str, reports_dir: Path, now: datetime) -> Verdict:
    """Let Great Expectations judge, store verdict, history, profile and page, and return the verdict."""
    from vpoc_ml.quality.validate import judge

    rules = [rule for check in asked.checks for rule in check.rules()]
    rule_results, page = judge(
        asked.gate, rules, asked.measurements, asked.contracts, run=run, now=now, folder=reports_dir / "gx"
    )
    worst: dict[tuple[str, str, str], tuple[Severity, str, str]] = {}
    for result_of_rule in rule_results:
        rule = result_of_rule.rule
        severity = "critical" if result_of_rule.error else rule.severity
        for contract in result_of_rule.contracts:
            key = (contract, rule.column, rule.check)
            if key not in worst or SEVERITIES.index(severity) < SEVERITIES.index(worst[key][0]):
                worst[key] = (severity, rule.expected, result_of_rule.error)
    measurements = {(t.contract, t.column, t.check): t for t in asked.measurements}
    failures = [_failure(key, *found, measurements.get(key)) for key, found in worst.items()]
    folder = reports_dir / "runs" / safe_name(run)
    verdict = Verdict(
        gate=asked.gate,
        run=run,
        contracts=asked.contracts,
        checks=sum(len(check.scope(asked.contracts)) for check in asked.checks),
        failures=tuple(sorted(_causes(failures), key=_order)),
        report=str(folder / "gates.html"),
        data_docs=page,
    )
    history.append(reports_dir, verdict, asked.checks, asked.measurements, worst, now=now)
    history.append_profiles(reports_dir, asked.gate, run, asked.profiles)
    write_json(folder / f"{asked.gate}.json", verdict.to_json())
    gates_page.write(reports_dir, run)
    return verdict


def _failure(
    key: tuple[str, str, str], severity: Severity, expected: str, error: str, measurement: Measurement | None
) -> Failure:
    if error or measurement is None:
        note = f"the check raised: {error}" if error else NOT_COUNTED
        return Failure(*key, severity, 0, 0, 1.0, (), (), expected, note)
    first = tuple(stamp.isoformat() for stamp in measurement.first)
    values = tuple(f"{value:g}" for value in measurement.values)
    return Failure(
        *key,
        severity,
        measurement.count,
        measurement.rows,
        measurement.share,
        first,
        values,
        expected,
        measurement.note,
        measurement.unit,
    )


def _causes(failures: Sequence[Failure]) -> list[Failure]:
    """Leave out what was not counted only because the file or one of its columns could not be read."""
    causes = {f.contract for f in failures if f.check in ("readable", "schema") and f.count}
    return [f for f in failures if f.note != NOT_COUNTED or not causes & {f.contract, ALL}]


def _order(failure: Failure) -> tuple[int, str, float]:
    return SEVERITIES.index(failure.severity), failure.contract, -failure.share


def session_starts(lazy: pl.LazyFrame) -> list[tuple[date, int]]:
    """Return each session of a frame with the number of rows before it, in order."""
    counts = lazy.drop_nulls("session").group_by("session").agg(pl.len().alias("rows")).sort("session")
    before = counts.select("session", pl.col("rows").cum_sum() - pl.col("rows"))
    return list(before.collect(engine="streaming").iter_rows())
