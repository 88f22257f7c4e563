"""The table of ``vpoc-ml models``, for a terminal of 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from vpoc_ml.artifacts.model_card import ModelSummary
from vpoc_ml.reports.terminal_tables import render_models

REASONS = ["The rank IC is 0.0021 [-0.0104, 0.0146]; its lower bound does not exceed 0.0000: no evidence of skill."] * 7


def model(version: int, key: str, **changed) -> ModelSummary:
    fields = {
        "version": version,
        "key": key,
        "fingerprint": "0" * 16,
        "run": f"scheduled__2026-03-0{version}T23-30-00.000000-00-00",
        "registered": f"2026-03-0{version}T23:41:07+00:00",
        "champion": False,
        "metrics": {"rank_ic": 0.0021, "direction_accuracy": 0.5012, "net": -1_234_567.5},
        "decision": {"action": "refuse", "time": "2026-03-02T23:45:00+00:00", "reasons": REASONS},
    }
    return ModelSummary.model_validate(fields | changed)


def printed(*models: ModelSummary) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    render_models(console, models)
    return console.file.getvalue().splitlines()


def test_table_fits_and_has_date_metrics_and_reason_of_each_model():
    lines = printed(model(1, "ES-1m-rank", champion=True), model(2, "ES-1m-rank"))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for shown in ("*1", "2026-03-01", "0.0021", "0.5012", "-1,234,568", "refuse 2026-03-02", "(and 6 more)"):
        assert shown in text
    assert text.index("2026-03-02") < text.index("2026-03-01"), "the newest comes first"


def test_each_key_has_a_table_of_its_own_and_absent_values_are_dashes():
    text = "\n".join(printed(model(1, "ES-1m-rank"), model(2, "NQ-15m-rank_gauss", metrics={}, decision=None)))
    es, nq = text.split("NQ-15m-rank_gauss\n")
    assert es.count("version") == nq.count("version") == 1
    assert "0.5012" not in nq
    assert "scheduled__2026-03-02" in nq
