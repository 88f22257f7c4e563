"""Metrics of a run for tests of what reads them."""

from __future__ import annotations

from typing import Any

INTERVAL = {"value": 0.02, "low": 0.01, "high": 0.03}


def example_metrics(**changes: Any) -> dict[str, Any]:
    """Return the content of ``metrics.json``; ``changes`` replace fields, those of ``backtest`` one by one."""
    backtest: dict[str, Any] = {
        "point_value": 50.0,
        "round_turn_cost": 29.5,
        "trades": 58,
        "gross": 500.0,
        "costs": 1711.0,
        "net": -1211.0,
        "net_per_session": None,
        "sharpe": None,
        "sharpe_gross": None,
        "max_drawdown": 1300.0,
        "hit_rate": 0.5,
        "break_even_cost": 8.62,
        "stress": {"round_turn_cost": 59.0, "net": -2922.0, "sharpe": None},
        "daily": [],
    }
    metrics = {
        "rows": 100,
        "sessions": 12,
        "from": "2026-02-02T00:00:00+00:00",
        "to": "2026-02-27T22:00:00+00:00",
        "zero_return_share": 0.1,
        "block": "session",
        "confidence": 0.95,
        "bootstrap_samples": 100,
        "huber_delta": 0.1,
        "models": {"candidate": {"rank_ic": INTERVAL, "direction_accuracy": INTERVAL}},
        "versus": {},
        "backtest": backtest | changes.pop("backtest", {}),
        "calibration": [],
        "champion_unscored": None,
        "train_rows": 1000,
        "validation_rows": 100,
    }
    return metrics | changes
