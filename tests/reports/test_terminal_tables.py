"""The tables at the end of a run show the result after costs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.artifacts.run_summary import RunSummary
from vpoc_ml.reports.terminal_tables import render

METRICS = example_metrics(
    models={"candidate": {"rank_ic": {"value": 0.05, "low": 0.03, "high": 0.07}}},
    backtest={
        "net": -512_345.0,
        "round_turn_cost": 29.5,
        "net_per_session": {"value": -9.0, "low": -12.0, "high": -6.0},
    },
)


@pytest.mark.parametrize(("promote", "word"), [(True, "PROMOTED"), (False, "REFUSED")])
def test_decision_line_has_the_net_result_after_costs(promote, word):
    text = io.StringIO()
    summary = RunSummary(
        run="first",
        preset="demo",
        config_hash="0",
        stages=(),
        gates=(),
        data=None,
        metrics=Metrics.model_validate(METRICS),
        decision=Decision.model_validate({"promote": promote, "reasons": []}),
        unreadable=(),
        notes=(),
        lost=(),
        reports={},
    )
    render(Console(file=text, width=60), summary)
    line = f"Promotion: {word}; predictive, not tradeable: net -$512,345 at $29.50 a round turn"
    assert line in text.getvalue().splitlines()
