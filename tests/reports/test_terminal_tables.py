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


def test_tables_fit_80_columns_without_breaking_a_number():
    interval = {"value": -0.0512, "low": -0.0301, "high": 0.0702}
    loss = {"value": 0.019382, "low": 0.018704, "high": 0.020051}
    numbers = {"direction_accuracy": interval | {"low": 0.0301}, "rank_ic": interval, "huber": loss, "mae": loss}
    metrics = example_metrics(models={"candidate": numbers, "last_sign": numbers})
    content = {"run": "r", "preset": "p", "config_hash": "0", "data": None, "decision": None, "gates": ()}
    lists = dict.fromkeys(("stages", "unreadable", "notes", "lost"), ()) | {"reports": {}}
    text = io.StringIO()
    render(Console(file=text, width=80), RunSummary.model_validate({**content, **lists, "metrics": metrics}))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    table = next(line for line in lines if "[0.01870, 0.02005]" in line)
    assert "[-0.0301, 0.0702]" in table


def test_sentences_are_wrapped_on_a_terminal_and_whole_in_a_file():
    sentence = "the rule compares every session with the same session of the champion " * 3
    summary = RunSummary.model_validate(
        {"run": "r", "preset": "p", "config_hash": "0", "data": None, "decision": None, "metrics": None}
        | dict.fromkeys(("stages", "gates", "unreadable", "lost"), ())
        | {"reports": {}, "notes": (sentence.strip(),)}
    )
    for terminal in (True, False):
        text = io.StringIO()
        render(Console(file=text, width=60, force_terminal=terminal, no_color=True), summary)
        lines = [line for line in text.getvalue().splitlines() if "rule" in line or "session" in line]
        assert (max(map(len, lines)) <= 60) == terminal
        assert (len(lines) == 1) != terminal
        assert all(line.startswith("    ") for line in lines[1:])
