"""The picture of a run: what each step made, and where the run ended."""

from __future__ import annotations

import pytest
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml.artifacts.run_summary import RunSummary
from vpoc_ml.reports.run_picture import picture

METRICS = example_metrics(models={"candidate": {"rank_ic": {"value": 0.05, "low": 0.03, "high": 0.07}}})


def row(stage, made=None, contract=None, error=None, quarantined=None):
    empty = dict.fromkeys(("rows_in", "skipped", "seconds", "reason"))
    return {**empty, "stage": stage, "contract": contract, "rows_out": made, "error": error, "quarantined": quarantined}


def gate(name, critical=0, warning=0):
    severities = ["critical"] * critical + ["warning"] * warning
    common = {"contract": "ESH25", "column": "close", "check": "finite", "share": 0.1, "expected": "finite"}
    failures = [{**common, "severity": severity} for severity in severities]
    verdict = {"gate": name, "run": "r", "contracts": ["ESH25"], "checks": 9, "report": "gates.html"}
    return {"stage": f"gate-{name}", **verdict, "failures": failures}


def shown(stages, gates, **more):
    content = {"run": "r", "preset": "nightly", "config_hash": "0", "data": None, "metrics": None, "decision": None}
    lists = dict.fromkeys(("unreadable", "notes", "lost"), ()) | {"reports": {}}
    return picture(RunSummary.model_validate({**content, **lists, "stages": stages, "gates": gates, **more}))


def test_each_step_has_its_result_and_its_gates():
    stages = [row("ingest", 1200, "ESH25", quarantined=3), row("ingest", 800, "ESM25"), row("profile", 5, "ESH25")]
    stages += [row("features", 2000, "ESH25"), row("training-set", 1500), row("train-fold", 700, "ESM25")]
    stages += [row("evaluate", 700), row("score", 0)]
    gates = [gate("bars"), gate("features", warning=2), gate("leakage"), gate("candidate")]
    lines = shown(stages, gates, metrics=METRICS, decision={"promote": False, "reasons": []})
    assert [line.rstrip() for line in lines if line != "      |"] == [
        "  bars          2,000 of 2 contracts; 3 quarantined gate bars: passed",
        "  profile       5 sessions",
        "  features      2,000 rows                       gate features: 2 warnings",
        "                                                 gate leakage: passed",
        "  training set  1,500 rows",
        "  folds         1 trained on the past only",
        "  candidate     rank IC 0.0500 [0.0300, 0.0700]  gate candidate: passed",
        "  decision      REFUSED",
        "  scores        no bar after the training data",
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("failed", [True, False])
def test_a_run_that_stopped_ends_with_its_last_step(failed):
    lines = shown([row("ingest", 1200, "ESH25", error="bad" if failed else None)], [gate("bars", critical=3)])
    assert len(lines) == 1
    assert lines[0].startswith("  bars          FAILED" if failed else "  bars          1,200 of 1 contract ")
    assert lines[0].endswith("gate bars: FAILED")
