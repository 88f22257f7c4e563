"""Great Expectations validates the measurements of a gate: one expectation per check and severity, one validation per
gate.

An expectation costs about 3 ms, and a gate has hundreds of columns with a check each. Every expectation therefore
covers all columns and contracts of its check; its result lists those that broke their limit, with count and first rows.

Great Expectations never receives the data themselves, only one row per contract, column, check and severity. Every gate
uses its own ephemeral context. Gates of parallel tasks therefore share only the folder of results, in which every file
is written atomically under its own name. ``reports.gate_pages.publish_data_docs`` builds the Data Docs from them.

Importing this module imports great_expectations, which takes seconds: import it inside a function.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf, nan
from pathlib import Path
from typing import Any, ClassVar

import great_expectations as gx
import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from vpoc_ml.artifacts.gate_report import ALL, describe, safe_name
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.quality.checks import NOT_MEASURED, GateInput, Limit, Measurement, Rule

DATASOURCE = "measurements"
METRIC = "table.vpoc_limits"
COLUMNS = [
    "check",
    "severity",
    "contract",
    "column",
    "max_count",
    "max_share",
    "count",
    "rows",
    "share",
    "unit",
    "text",
]
TEXTS = 2
"""Different limits that the description of an expectation names."""
SHOWN = 20
"""Broken limits that a page of the Data Docs shows for a check; the stored result has all of them."""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of one rule: the ``contracts`` that broke it; all of them if it raised an ``error``."""

    rule: Rule
    contracts: tuple[str, ...]
    error: str = ""


class LimitLookup(TableMetricProvider):  # type: ignore[misc]
    """The rows of the batch by (check, severity), computed once for all expectations."""

    metric_name = METRIC

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(
        cls,
        execution_engine: Any,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> dict[tuple[str, str], list[Any]]:
        frame, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        rows = defaultdict(list)
        for row in frame.itertuples(index=False):
            rows[row.check, row.severity].append(row)
        return rows


class ExpectChecksWithinLimits(BatchExpectation):  # type: ignore[misc]
    """Expect the defects that one check counts to stay within the limit of every contract and column.

    A missing measurement fails.
    """

    check: str

    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)
    success_keys: ClassVar[tuple[str, ...]] = ("check",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        rows = metrics[METRIC].get((self.check, self.severity.value), [])
        counted = [row for row in rows if row.text != NOT_MEASURED]
        broken = [
            (row.contract, row.column, row.text)
            for row in rows
            if row.text == NOT_MEASURED or Limit(row.max_count, row.max_share).breached(row.count, row.share)
        ]
        bad, of = int(sum(row.count for row in counted)), int(sum(row.rows for row in counted))
        found = describe(bad, of, counted[0].unit if counted else "rows")
        contracts, columns = ({getattr(row, name) for row in rows} for name in ("contract", "column"))
        where = f"{len(contracts)} contracts, {len(columns)} columns"
        return {
            "success": bool(rows) and not broken,
            "result": {
                "observed_value": f"{found} in {where}; limit broken in {len(broken)} of {len(rows)}",
                "element_count": of,
                "unexpected_count": bad if broken else 0,
                "unexpected_percent": 100.0 * bad / of if of else 0.0,
                "partial_unexpected_list": [f"{code} {column}: {text}" for code, column, text in broken[:SHOWN]],
                "details": {"broken": [list(row) for row in broken]},
            },
        }


class ExpectMeasurementWithinLimit(ExpectChecksWithinLimits):
    """The expectation in results of earlier versions, one per column and severity; the Data Docs still show them."""

    column: str
    contracts: list[str]
    max_count: int | None = None
    max_share: float | None = None


class ExpectTallyWithinLimit(ExpectMeasurementWithinLimit):
    """An earlier name of the same expectation."""


def validate(gate_input: GateInput, *, run: str, now: datetime, folder: Path) -> tuple[list[RuleResult], str]:
    """Validate the measurements of a gate and store suite and result under ``folder``.

    Args:
        gate_input: The gate's checks, each of which needs a measurement of every contract, and the measurements.
        run: Name of the run.
        now: Time of the validation, aware.
        folder: Shared results folder; ``expectations/`` and ``validations/`` are written below it.

    Returns:
        One result per rule, and the path of the gate's page below the Data Docs folder.
    """
    rules = [rule for check in gate_input.checks for rule in check.rules(gate_input.contracts)]
    groups: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        groups[rule.check, rule.severity].append(rule)
    gate = gate_input.gate
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars=ProgressBarsConfig(globally=False)
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    expectations = [
        ExpectChecksWithinLimits(
            check=check,
            severity=severity,
            description=f"[{severity.upper()}] {check}: {_expected(group)}",
            notes=f"Columns: {', '.join(dict.fromkeys(rule.column for rule in group))}",
        )
        for (check, severity), group in groups.items()
    ]
    suite = context.suites.add(gx.ExpectationSuite(name=gate, expectations=expectations))
    asset = context.data_sources.add_pandas(DATASOURCE).add_dataframe_asset(gate)
    batch = asset.add_batch_definition_whole_dataframe(gate)
    validation = context.validation_definitions.add(gx.ValidationDefinition(name=gate, data=batch, suite=suite))
    run_id = RunIdentifier(run_name=safe_name(run), run_time=now)
    result = validation.run(
        batch_parameters={"dataframe": _batch(rules, gate_input.measurements)},
        run_id=run_id,
        result_format={"result_format": "SUMMARY"},
    )
    results = match_results(rules, result)
    # Great Expectations also fails a result for warnings; its pages must agree with the verdict
    result.success = not any(each.contracts and (each.error or each.rule.severity == "critical") for each in results)

    key = ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(suite.name),
        run_id=run_id,
        batch_identifier=result.batch_id,
    )
    path = "/".join(key.to_tuple())
    text = context.stores[context.validation_results_store_name].serialize(result)
    write_text(folder / "validations" / f"{path}.json", json.dumps(json.loads(text), allow_nan=False))
    suite_text = context.stores[context.expectations_store_name].serialize(suite)
    write_text(folder / "expectations" / f"{suite.name}.json", suite_text)
    return results, f"validations/{path}.html"


def match_results(rules: Sequence[Rule], result: Any) -> list[RuleResult]:
    """Return one result per rule; a rule that raised an exception, or has no result, is broken in every contract."""
    answers = {}
    for answer in result.results:
        config = answer.expectation_config
        info = answer.exception_info or {}
        entries = [info] if "raised_exception" in info else info.values()  # nested when a metric raised it
        raised = [entry for entry in entries if entry.get("raised_exception")]
        error = str(raised[0].get("exception_message") or "exception without message") if raised else ""
        broken: dict[str, list[str]] = defaultdict(list)
        for contract, column, _ in [] if error or answer.success else answer.result["details"]["broken"]:
            broken[column].append(contract)
        answers[config.kwargs["check"], config.severity.value] = error, broken
    results = []
    for rule in rules:
        error, broken = answers.get((rule.check, rule.severity), ("no result", {}))
        results.append(RuleResult(rule, rule.contracts if error else tuple(broken.get(rule.column, ())), error))
    return results


def _expected(group: Sequence[Rule]) -> str:
    """Return what a check expects of its columns, as the Data Docs show it."""
    texts = list(dict.fromkeys(rule.expected + rule.limit.text for rule in group))
    more = f"; and {len(texts) - TEXTS} more limits" if len(texts) > TEXTS else ""
    columns = len({rule.column for rule in group} - {ALL})
    return "; ".join(texts[:TEXTS]) + more + (f" - {columns} columns" if columns > 1 else "")


def _batch(rules: Sequence[Rule], measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return one row per rule and contract (``COLUMNS``).

    count, rows and share are NaN where nothing was measured. A limit that does not exist is infinite. ``text`` is the
    description of the defects in the Data Docs.
    """
    measured = {(each.contract, each.column, each.check): each for each in measurements}
    rows: list[tuple[object, ...]] = []
    for rule in rules:
        limits = [inf if limit is None else limit for limit in (rule.limit.count, rule.limit.share)]
        for contract in rule.contracts:
            each = measured.get((contract, rule.column, rule.check))
            found: tuple[object, ...] = (nan, nan, nan, "rows", NOT_MEASURED)
            if each is not None:
                found = (each.count, each.rows, each.share, each.unit, _text(each, rule) if each.count else "")
            rows.append((rule.check, rule.severity, contract, rule.column, *limits, *found))
    return pd.DataFrame(rows, columns=COLUMNS)


def _text(found: Measurement, rule: Rule) -> str:
    values = [*(f" = {value:g}" for value in found.values if value == value), *([""] * len(found.first))]
    firsts = [f"{when.isoformat()}{value}" for when, value in zip(found.first, values, strict=False)]
    first = f"first {', '.join(firsts)}" if firsts else ""
    expected = f"(expected {rule.expected}{rule.limit.text})"
    return " ".join(filter(None, [describe(found.count, found.rows, found.unit), found.note, first, expected]))
