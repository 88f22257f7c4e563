"""Great Expectations judges the tallies of a gate: one expectation per rule, one validation per gate.

The big data never reach Great Expectations; it sees one row per (contract, column, check). Every gate uses
its own ephemeral context, so that gates of parallel tasks share nothing but the folder of results, and every
file in it is written atomically under a name of its own. ``docs.publish`` builds Data Docs from that folder.

Importing this module imports great_expectations, which costs seconds: import it inside a function.
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

from vpoc_ml.artifacts.gate_report import describe, first_text, safe_name
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.quality.checks import ALL, Limit, Measurement, Rule

DATASOURCE = "tallies"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What Great Expectations said about one rule: ``contracts`` that broke it, or the ``error`` it raised."""

    rule: Rule
    contracts: tuple[str, ...]
    error: str = ""


class MeasurementLookup(TableMetricProvider):  # type: ignore[misc]
    """All tallies of the batch by (contract, column, check); computed once for all expectations."""

    metric_name = "table.vpoc_tallies"

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
    """Expect the defects of one column to stay within a limit in every contract; not counted is not within."""

    column: str
    check: str
    contracts: list[str]
    max_count: int | None = None
    max_share: float | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.vpoc_tallies",)
    success_keys: ClassVar[tuple[str, ...]] = ("column", "check", "contracts", "max_count", "max_share")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        limit = Limit(self.max_count, self.max_share)
        measurements = metrics["table.vpoc_tallies"]
        found = {code: measurements.get((code, self.column, self.check)) for code in self.contracts}
        broken = [code for code, row in found.items() if row is None or limit.breached(row["count"], row["share"])]
        counted = [row for row in found.values() if row is not None]
        bad, rows = sum(int(row["count"]) for row in counted), sum(int(row["rows"]) for row in counted)
        texts = {code: "not counted" if row is None else row["text"] for code, row in found.items()}
        unit = counted[0]["unit"] if counted else "rows"
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


def judge(
    gate: str,
    rules: Sequence[Rule],
    measurements: Sequence[Measurement],
    contracts: Sequence[str],
    *,
    run: str,
    now: datetime,
    folder: Path,
) -> tuple[list[RuleResult], str]:
    """Let Great Expectations judge ``tallies`` by ``rules`` and store suite and result under ``folder``.

    Args:
        gate: Name of the suite and of the asset.
        rules: What is asked; each must be answered for every contract.
        tallies: What was counted.
        contracts: Contracts the gate covers.
        run: Name of the run.
        now: Time of the validation, aware.
        folder: Shared results folder; ``expectations/`` and ``validations/`` are written below it.

    Returns:
        One judgement per rule, and the path of the result's page below the Data Docs folder.
    """
    context = _context()
    suite = gx.ExpectationSuite(name=gate, expectations=[_expectation(rule, contracts) for rule in rules])
    suite = context.suites.add(suite)
    asset = context.data_sources.add_pandas(DATASOURCE).add_dataframe_asset(gate)
    batch = asset.add_batch_definition_whole_dataframe(gate)
    validation = context.validation_definitions.add(gx.ValidationDefinition(name=gate, data=batch, suite=suite))
    run_id = RunIdentifier(run_name=safe_name(run), run_time=now)
    result = validation.run(
        batch_parameters={"dataframe": _frame(measurements)}, run_id=run_id, result_format={"result_format": "SUMMARY"}
    )
    rule_results = _judgements(rules, result, contracts)
    # Great Expectations fails a result for a mere warning; its pages shall say what the verdict says
    result.success = not any(j.contracts and (j.error or j.rule.severity == "critical") for j in rule_results)
    return rule_results, _store(context, suite, result, run_id, folder)


def _context() -> Any:
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars=ProgressBarsConfig(globally=False)
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _expectation(rule: Rule, contracts: Sequence[str]) -> ExpectMeasurementWithinLimit:
    return ExpectMeasurementWithinLimit(
        column=rule.column,
        check=rule.check,
        contracts=_scope(rule, contracts),
        max_count=rule.limit.count,
        max_share=rule.limit.share,
        severity=rule.severity,
        description=f"[{rule.severity.upper()}] {rule.check}: {rule.expected}{_limit_text(rule.limit)}",
    )


def _scope(rule: Rule, contracts: Sequence[str]) -> list[str]:
    return [ALL] if rule.whole_run else list(contracts)


def _limit_text(limit: Limit) -> str:
    sides = [f"{limit.count:,} rows" if limit.count else "", f"{limit.share:.2%}" if limit.share else ""]
    allowed = " or ".join(filter(None, sides))
    return f" (up to {allowed})" if allowed else ""


def _frame(measurements: Sequence[Measurement]) -> pd.DataFrame:
    rows = [
        {
            "contract": measurement.contract,
            "column": measurement.column,
            "check": measurement.check,
            "count": measurement.count,
            "rows": measurement.rows,
            "share": measurement.share,
            "unit": measurement.unit,
            "text": " ".join(
                filter(
                    None,
                    [
                        describe(measurement.count, measurement.rows, measurement.unit),
                        measurement.note,
                        first_text(measurement),
                    ],
                )
            ),
        }
        for measurement in measurements
    ]
    return pd.DataFrame(rows, columns=["contract", "column", "check", "count", "rows", "share", "unit", "text"])


def _judgements(rules: Sequence[Rule], result: Any, contracts: Sequence[str]) -> list[RuleResult]:
    """Match results to rules; a rule that raised, or has no result, is broken in every contract."""
    answers = {}
    for answer in result.results:
        kwargs = answer.expectation_config.kwargs
        answers[kwargs["column"], kwargs["check"], answer.expectation_config.severity.value] = answer
    rule_results = []
    for rule in rules:
        answer = answers.get((rule.column, rule.check, rule.severity))
        error = "no result" if answer is None else _exception(answer.exception_info)
        if error or answer is None:
            rule_results.append(RuleResult(rule, tuple(_scope(rule, contracts)), error))
        else:
            broken = () if answer.success else tuple(answer.result["details"]["contracts"])
            rule_results.append(RuleResult(rule, broken))
    return rule_results


def _exception(info: dict[str, Any] | None) -> str:
    """Return the message of an exception the check raised; GX nests it when a metric raised."""
    if not info:
        return ""
    entries = [info] if "raised_exception" in info else list(info.values())
    raised = [entry for entry in entries if entry.get("raised_exception")]
    return str(raised[0].get("exception_message") or "exception without message") if raised else ""


def _store(context: Any, suite: Any, result: Any, run_id: RunIdentifier, folder: Path) -> str:
    """Write suite and result where ``docs.publish`` finds them; return the page's path below the site."""
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
    return f"validations/{path}.html"
