"""The backtest on days small enough to trade by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.evaluation.backtest import backtest, max_drawdown, sharpe, trades
from vpoc_ml.evaluation.bootstrap import draw

COST = 29.50


def rows(*spans: tuple[int, int, float, float], horizon: int = 1) -> pl.DataFrame:
    """Rows of (day, minute, entry, exit); labels end ``horizon`` minutes later."""
    frame = pl.DataFrame(
        {
            "ts": pl.Series(
                [datetime(2025, 1, 6, 14, tzinfo=UTC) + timedelta(days=d, minutes=m) for d, m, *_ in spans],
                dtype=pl.Datetime("us", "UTC"),
            ),
            "contract": ["ESH25"] * len(spans),
            "session": [date(2025, 1, 6) + timedelta(days=d) for d, *_ in spans],
            "entry_price": [float(entry) for *_, entry, _ in spans],
            "exit_price": [float(leave) for *_, leave in spans],
        }
    )
    return frame.with_columns(label_end=pl.col("ts") + pl.duration(minutes=horizon))


GOLDEN = rows(
    (0, 0, 100.00, 101.00),  # long ...
    (0, 1, 101.25, 102.00),  # ... carried: 102.00 - 100.00 = +2.00 points
    (0, 2, 102.00, 101.50),  # short: 102.00 - 101.50 = +0.50
    (0, 5, 103.00, 104.00),  # short again after a gap: 103.00 - 104.00 = -1.00
    (1, 0, 104.00, 103.00),  # short again in a new session: +1.00
    (1, 1, 103.00, 105.00),  # no position
    (1, 2, 105.00, 105.25),  # long: +0.25
    (2, 0, 105.00, 104.00),  # long: -1.00
)
SIDES = np.array([1, 1, -1, -1, -1, 0, 1, 1], dtype=float)


def run(frame, sides, **changes):
    settings = {"point_value": 50.0, "round_turn_cost": COST} | changes
    return backtest(frame, sides, draw(frame["session"].n_unique(), samples=100, confidence=0.95, seed=1), **settings)


def test_golden_days_by_hand():
    held = trades(GOLDEN, SIDES, point_value=50.0)
    assert held.gross.tolist() == [100.0, 25.0, -50.0, 50.0, 12.5, -50.0]
    result = run(GOLDEN, SIDES)
    assert (result.trades, result.gross, result.costs) == (6, 87.5, 6 * COST)
    assert result.net == 87.5 - 6 * COST
    assert result.hit_rate == pytest.approx(4 / 6)
    assert result.break_even_cost == pytest.approx(87.5 / 6)
    assert result.stress.net == 87.5 - 12 * COST
    assert [day.model_dump() for day in result.daily] == [
        {"session": "2025-01-06", "gross": 75.0, "net": 75.0 - 3 * COST, "trades": 3},
        {"session": "2025-01-07", "gross": 62.5, "net": 62.5 - 2 * COST, "trades": 2},
        {"session": "2025-01-08", "gross": -50.0, "net": -50.0 - COST, "trades": 1},
    ]
    net = np.array([75.0 - 3 * COST, 62.5 - 2 * COST, -50.0 - COST])
    assert net.tolist() == [-13.5, 3.5, -79.5]
    assert result.max_drawdown == 89.5
    assert result.sharpe.value == pytest.approx(np.sqrt(252) * net.mean() / net.std(ddof=1))


def test_max_drawdown_starts_at_zero():
    assert max_drawdown(np.array([-5.0, 10.0, -3.0, -4.0, 8.0])) == 7.0
    assert max_drawdown(np.array([-5.0, -1.0])) == 6.0
    assert max_drawdown(np.array([5.0, 1.0])) == 0.0


def test_confirmed_position_costs_one_round_turn_however_long():
    frame = rows(*[(d, m, 100 + m, 101 + m) for d in range(3) for m in range(60)])
    result = run(frame, np.ones(180))
    assert (result.trades, result.gross) == (3, 3 * 60 * 50.0)


def test_no_trades_have_no_ratios():
    result = run(GOLDEN, np.zeros(8))
    assert (result.trades, result.net, result.max_drawdown) == (0, 0.0, 0.0)
    assert (result.sharpe, result.hit_rate, result.break_even_cost) == (None, None, None)


def test_absent_price_means_no_position():
    frame = rows((0, 0, 100, 101), (0, 1, float("nan"), 102), (0, 2, 102, 103))
    held = trades(frame, np.ones(3), point_value=1.0)
    assert held.gross.tolist() == [1.0, 1.0]


def test_new_contract_closes_the_position():
    frame = rows((0, 0, 100, 101), (0, 1, 150, 151)).with_columns(contract=pl.Series(["ESH25", "ESM25"]))
    assert trades(frame, np.ones(2), point_value=1.0).gross.tolist() == [1.0, 1.0]


def test_longer_horizon_decides_only_after_the_last_exit():
    # the label of minute m runs from the open of m+1 to the close of m+3
    frame = rows(*[(0, m, 100 + m, 103 + m) for m in range(7)], horizon=3)
    sides = np.array([1, -1, -1, 1, -1, -1, -1], dtype=float)
    held = trades(frame, sides, point_value=1.0)
    assert held.direction.tolist() == [1.0, -1.0]  # minutes 0 and 3 agree, minute 6 turns
    assert held.gross.tolist() == [(103 + 3) - 100, -(109 - 106)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.integers(1, 3), st.integers(-8, 8)), min_size=3, max_size=50),
    st.integers(1, 4),
)
def test_held_run_earns_exactly_its_last_exit_minus_its_first_entry(steps, days):
    minute = np.cumsum([gap for _, gap, _ in steps])
    entry = 5000 + np.cumsum([0.25 * move for *_, move in steps])
    session = np.arange(len(steps)) * days // len(steps)
    frame = rows(*zip(session.tolist(), minute.tolist(), entry.tolist(), (entry + 0.5).tolist(), strict=True))
    sides = np.array([side for side, *_ in steps], dtype=float)
    expected, first = [], None
    for i, side in enumerate(sides):
        first = i if first is None else first
        ends = i + 1 == len(sides) or sides[i + 1] != side or minute[i + 1] != minute[i] + 1
        if ends or session[i + 1] != session[i]:
            expected += [side * (entry[i] + 0.5 - entry[first])] if side else []
            first = None
    assert trades(frame, sides, point_value=1.0).gross.tolist() == expected


def test_sharpe_without_spread_is_undefined():
    assert np.isnan(sharpe(np.array([3.0, 30.0, 300.0])))
