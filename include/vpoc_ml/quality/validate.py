"""Great Expectations validates the measurements of a gate: one expectation per rule, one validation per gate.

Great Expectations never receives the data themselves, only one row per contract, column and check. Every gate uses
its own ephemeral context. Gates of parallel tasks therefore share only the folder of results, in which every file is
written atomically under its own name. ``reports.gate_pages.publish_data_docs`` builds the Data Docs from that folder.

Importing this module imports great_expectations, which takes seconds: import it inside a function.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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

from vpoc_ml.artifacts.gate_report import describe, safe_name
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.quality.checks import GateInput, Limit, Measurement, Rule

DATASOURCE = "measurements"
METRIC = "table.vpoc_measurements"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of one rule: the ``contracts`` that broke it; all of them if it raised an ``error``."""

    rule: Rule
    contracts: tuple[str, ...]
    error: str = ""


class MeasurementLookup(TableMetricProvider):  # type: ignore[misc]
    """All measurements of the batch by (contract, column, check), computed once for all expectations."""

    metric_name = METRIC

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(
        cls,
        execution_engine: Any,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> dict[tuple[str, str, str], dict[str, Any]]:
        frame, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        return {(row["contract"], row["column"], row["check"]): row for row in frame.to_dict("records")}


class ExpectMeasurementWithinLimit(BatchExpectation):  # type: ignore[misc]
    """Expect the defects of one column to stay within a limit in every contract; a missing measurement fails."""

    column: str
    check: str
    contracts: list[str]
    max_count: int | None = None
    max_share: float | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)
    success_keys: ClassVar[tuple[str, ...]] = ("column", "check", "contracts", "max_count", "max_share")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        limit = Limit(self.max_count, self.max_share)
        found = {code: metrics[METRIC].get((code, self.column, self.check)) for code in self.contracts}
        broken = [code for code, row in found.items() if row is None or limit.breached(row["count"], row["share"])]
        measured = [row for row in found.values() if row is not None]
        bad, rows = sum(int(row["count"]) for row in measured), sum(int(row["rows"]) for row in measured)
        texts = {code: "not counted" if row is None else row["text"] for code, row in found.items()}
        unit = measured[0]["unit"] if measured else "rows"
        where = f"{len(self.contracts)} contracts; limit broken in {len(broken)}"
        return {
            "success": bool(found) and not broken,
            "result": {
                "observed_value": f"{describe(bad, rows, unit)} in {where}",
                "element_count": rows,
                "unexpected_count": bad if broken else 0,
                "unexpected_percent": 100.0 * bad / rows if rows else 0.0,
                "partial_unexpected_list": [f"{code}: {texts[code]}" for code in broken[:20]],
                "details": {"contracts": broken},
            },
        }


class ExpectTallyWithinLimit(ExpectMeasurementWithinLimit):
    """The name of the expectation in results that the previous release stored; the Data Docs still show them."""


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
    gate, rules = gate_input.gate, [rule for check in gate_input.checks for rule in check.rules(gate_input.contracts)]
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars=ProgressBarsConfig(globally=False)
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    expectations = [
        ExpectMeasurementWithinLimit(
            column=rule.column,
            check=rule.check,
            contracts=list(rule.contracts),
            max_count=rule.limit.count,
            max_share=rule.limit.share,
            severity=rule.severity,
            description=f"[{rule.severity.upper()}] {rule.check}: {rule.expected}{rule.limit.text}",
        )
        for rule in rules
    ]
    suite = context.suites.add(gx.ExpectationSuite(name=gate, expectations=expectations))
    asset = context.data_sources.add_pandas(DATASOURCE).add_dataframe_asset(gate)
    batch = asset.add_batch_definition_whole_dataframe(gate)
    validation = context.validation_definitions.add(gx.ValidationDefinition(name=gate, data=batch, suite=suite))
    run_id = RunIdentifier(run_name=safe_name(run), run_time=now)
    result = validation.run(
        batch_parameters={"dataframe": _batch(gate_input.measurements)},
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
        kwargs = answer.expectation_config.kwargs
        answers[kwargs["column"], kwargs["check"], answer.expectation_config.severity.value] = answer
    results = []
    for rule in rules:
        answer = answers.get((rule.column, rule.check, rule.severity))
        if answer is None:
            results.append(RuleResult(rule, rule.contracts, "no result"))
            continue
        info = answer.exception_info or {}
        entries = [info] if "raised_exception" in info else info.values()  # nested when a metric raised it
        raised = [entry for entry in entries if entry.get("raised_exception")]
        error = str(raised[0].get("exception_message") or "exception without message") if raised else ""
        broken = rule.contracts
        if not error:
            broken = () if answer.success else tuple(answer.result["details"]["contracts"])
        results.append(RuleResult(rule, broken, error))
    return results


def _batch(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return one row per measurement; ``text`` is its description in the Data Docs."""
    rows = []
    for each in measurements:
        values = [*(f" = {value:g}" for value in each.values if value == value), *([""] * len(each.first))]
        firsts = [f"{when.isoformat()}{value}" for when, value in zip(each.first, values, strict=False)]
        first = f"first {', '.join(firsts)}" if firsts else ""
        text = " ".join(filter(None, [describe(each.count, each.rows, each.unit), each.note, first]))
        share = each.share
        rows.append((each.contract, each.column, each.check, each.count, each.rows, share, each.unit, text))
    return pd.DataFrame(rows, columns=["contract", "column", "check", "count", "rows", "share", "unit", "text"])
