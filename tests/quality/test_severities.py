"""Severities, missing results and exceptions of Great Expectations all show in the verdict."""

from __future__ import annotations

import json

import pytest

from vpoc_ml.quality import history, validate
from vpoc_ml.quality.checks import NONE, Check, GateInput, Limit, Measurement
from vpoc_ml.quality.gates import validate_and_store


@pytest.fixture
def verdict_of(world):
    def run(checks, measurements, contracts=("ESH25",)):
        return validate_and_store(GateInput("bars", contracts, checks, measurements), "r", world.reports, world.now)

    return run


def test_warning_alone_never_fails_a_gate_nor_its_page(world, verdict_of):
    verdict = verdict_of([Check("a", "x", "nothing", None, warn_if=NONE)], [Measurement("ESH25", "x", "a", 5, 10)])
    assert (verdict.passed, verdict.count("warning"), verdict.count("critical")) == (True, 1, 0)
    (stored,) = (world.reports / "gx" / "validations").rglob("*.json")
    assert json.loads(stored.read_text())["success"] is True


@pytest.mark.parametrize(("count", "severity"), [(0, None), (1, "info"), (3, "warning"), (60, "critical")])
def test_worst_broken_limit_gives_the_severity(verdict_of, count, severity):
    check = Check("a", "x", "few", Limit(share=0.5), warn_if=Limit(count=2), info_if=NONE)
    verdict = verdict_of([check], [Measurement("ESH25", "x", "a", count, 100)])
    assert [f.severity for f in verdict.failures] == ([severity] if severity else [])
    assert verdict.passed is (severity != "critical")


def test_only_the_contract_at_fault_fails(verdict_of):
    measurements = [Measurement("ESH25", "x", "a", 0, 10), Measurement("ESM25", "x", "a", 1, 10)]
    verdict = verdict_of([Check("a", "x", "none")], measurements, ("ESH25", "ESM25"))
    assert [f.contract for f in verdict.failures] == ["ESM25"]
    assert verdict.checks == 2


def test_a_check_without_a_measurement_fails(verdict_of):
    verdict = verdict_of([Check("a", "x", "none")], [])
    assert not verdict.passed
    assert verdict.failures[0].note == "not counted"


def test_a_gate_without_checks_has_not_passed(verdict_of):
    assert not verdict_of([], [Measurement("ESH25", "x", "a", 0, 10)]).passed


def test_an_exception_in_a_check_is_critical_at_any_severity(verdict_of, monkeypatch):
    original = validate.ExpectChecksWithinLimits._validate

    def explode(self, *args, **kwargs):
        if self.check == "b":
            raise ZeroDivisionError("boom")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(validate.ExpectChecksWithinLimits, "_validate", explode)
    checks = [Check("a", "x", "none"), Check("b", "x", "none", None, warn_if=NONE)]
    verdict = verdict_of(checks, [Measurement("ESH25", "x", name, 0, 10) for name in "ab"])
    assert [(f.check, f.severity) for f in verdict.failures] == [("b", "critical")]
    assert "boom" in verdict.failures[0].note
    assert not verdict.passed


def test_exception_in_the_shared_metric_fails_every_check(verdict_of, monkeypatch):
    from great_expectations.execution_engine import PandasExecutionEngine

    def explode(self, *args, **kwargs):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(PandasExecutionEngine, "get_compute_domain", explode)
    checks = [Check("a", "x", "none"), Check("b", "x", "none", None, warn_if=NONE)]
    verdict = verdict_of(checks, [Measurement("ESH25", "x", name, 0, 10) for name in "ab"])
    assert verdict.count("critical") == 2
    assert not verdict.passed


def test_a_missing_result_is_critical(verdict_of, monkeypatch):
    original = validate.match_results

    def without_first(rules, result):
        result.results = result.results[1:]
        return original(rules, result)

    monkeypatch.setattr(validate, "match_results", without_first)
    checks = [Check(name, "x", "none", None, warn_if=NONE) for name in "ab"]
    verdict = verdict_of(checks, [Measurement("ESH25", "x", name, 0, 10) for name in "ab"])
    assert verdict.count("critical") == 1


def test_stored_result_is_strict_json_with_names_and_severities(world, verdict_of):
    measurement = Measurement("ESH25", "x", "a", 1, 10, (world.now,), (float("inf"),))
    verdict_of([Check("a", "x", "no infinity")], [measurement])
    (stored,) = (world.reports / "gx" / "validations").rglob("*.json")

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    result = json.loads(stored.read_text(), parse_constant=refuse)
    (expectation,) = [r["expectation_config"] for r in result["results"]]
    assert expectation["severity"] == "critical"
    assert expectation["description"] == "[CRITICAL] a: no infinity"
    assert "inf" in json.dumps(result["results"][0]["result"]["partial_unexpected_list"])


def test_one_expectation_covers_the_columns_and_contracts_of_a_check(world, verdict_of):
    columns, contracts = [f"x{n}" for n in range(30)], ("ESH25", "ESM25")
    checks = [Check("a", name, "none", Limit(share=0.5), warn_if=Limit(count=1)) for name in columns]
    worse = {("ESH25", "x3"): 2, ("ESM25", "x7"): 9, ("ESM25", "x8"): 1}
    measurements = [
        Measurement(code, name, "a", worse.get((code, name), 0), 10, (world.now,) * (name == "x7"))
        for name in columns
        for code in contracts
    ]
    verdict = verdict_of(checks, measurements, contracts)
    found = {(f.contract, f.column): (f.severity, f.count, f.share) for f in verdict.failures}
    assert found == {("ESH25", "x3"): ("warning", 2, 0.2), ("ESM25", "x7"): ("critical", 9, 0.9)}
    assert verdict.checks == 60
    assert history.scan(world.reports).collect().height == 60
    (stored,) = (world.reports / "gx" / "validations").rglob("*.json")
    critical, warning = json.loads(stored.read_text())["results"]
    assert [critical["expectation_config"]["severity"], warning["expectation_config"]["severity"]] == [
        "critical",
        "warning",
    ]
    assert [row[:2] for row in critical["result"]["details"]["broken"]] == [["ESM25", "x7"]]
    assert [row[:2] for row in warning["result"]["details"]["broken"]] == [["ESH25", "x3"], ["ESM25", "x7"]]
    (line,) = critical["result"]["partial_unexpected_list"]
    assert line.startswith("ESM25 x7: 9 of 10 rows (90.0000%) first 2026-11-20T02:00:00+00:00 (expected none")


def test_validation_prints_nothing(verdict_of, capfd):
    verdict_of([Check("a", "x", "none")], [Measurement("ESH25", "x", "a", 1, 10)])
    captured = capfd.readouterr()
    assert "Calculating Metrics" not in captured.err
    assert captured.out == ""
