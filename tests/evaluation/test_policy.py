"""The position policy: days traded by hand, a loop over bars as oracle, and what must hold for any market."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.artifacts.metrics import Interval, Policy
from vpoc_ml.evaluation.bootstrap import draw
from vpoc_ml.evaluation.forecasts import Forecast
from vpoc_ml.evaluation.policy import (
    DecisionRows,
    apply_policy,
    choose_policy,
    evaluate_policy,
    fit_slope,
    verdict,
)

MONDAY = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)


def decisions(spans, *, horizon=1, contract=None) -> DecisionRows:
    """Rows of (day, minute, entry in ticks, score minus zero rank); the label's exit is one tick above the entry."""
    day, minute, entry, signal = (list(column) for column in zip(*spans, strict=True))
    moments = [MONDAY + timedelta(days=d, minutes=m) for d, m in zip(day, minute, strict=True)]
    ts = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {
            "ts": ts,
            "contract": contract or ["ESH25"] * len(spans),
            "session": [date(2025, 1, 6) + timedelta(days=d) for d in day],
            "label_end": ts + timedelta(minutes=horizon),
            "entry_price": np.array(entry, dtype=float) * 0.25,
            "exit_price": np.array(entry, dtype=float) * 0.25 + 0.25,
        }
    )
    return DecisionRows.of(frame, Forecast("candidate", 0.5 + np.array(signal, dtype=float), 0.5), 0.25)


def policy(rule, band, *, keep=0.0, hold=1, slope=1.0) -> Policy:
    return Policy(slope=slope, slope_error=0.0, band=band, rule=rule, keep=keep, hold_minutes=hold, sessions=1)


# Six bars of one session and two of the next; the band is 2 ticks.
DAY = [
    (0, 0, 100, 3.0),  # buy at 100
    (0, 1, 102, 1.5),  # between half the band and the band
    (0, 2, 103, 0.5),  # below half the band
    (0, 3, 101, -0.5),  # other side, within the band
    (0, 4, 104, -3.0),  # sell at 104
    (0, 9, 110, -9.0),  # last row of the session: closed at 110, after a gap
    (1, 0, 200, 3.0),  # buy at 200
    (1, 1, 195, 3.0),  # closed at 195
]


@pytest.mark.parametrize(
    ("rule", "changes", "position"),
    [
        ("reversal", {}, [1, 1, 1, 1, -1, 0, 1, 0]),
        ("decay", {"keep": 0.5}, [1, 1, 0, 0, -1, 0, 1, 0]),
        ("decay", {"keep": 0.0}, [1, 1, 1, 0, -1, 0, 1, 0]),
        ("horizon", {"hold": 1}, [1, 0, 0, 0, -1, 0, 1, 0]),
        ("horizon", {"hold": 3}, [1, 1, 1, 0, -1, 0, 1, 0]),
    ],
)
def test_golden_days_by_hand(rule, changes, position):
    rows = decisions(DAY)
    trades = apply_policy(policy(rule, 2.0, **changes), rows)
    assert trades.position.tolist() == position
    steps = [2, 1, -2, 3, 6, 0, -5, 0]
    assert trades.gross.tolist() == [p * s for p, s in zip(position, steps, strict=True)]


def test_results_of_a_golden_day_at_three_costs(instrument):
    """Reversal: +2+1-2+3-6 = -2 ticks in two round turns on day 0, -5 ticks in one on day 1, nothing on day 2."""
    rows = decisions([*DAY, (2, 0, 300, 0.0), (2, 1, 310, 0.0)])
    measured = evaluate_policy(
        policy("reversal", 2.0),
        rows,
        rows,
        draw(3, samples=100, confidence=0.95, seed=1),
        rank_ic=None,
        instrument=instrument,
        round_turn_cost=10.0,
    )
    assert (measured.round_turns, measured.gross) == (3, -7 * 12.5)
    assert [cost.net for cost in measured.costs] == [-87.5 - 30, -87.5 - 60, -87.5 - 90]
    assert [(day.gross, day.net, day.trades) for day in measured.daily] == [(-25, -45, 2), (-62.5, -72.5, 1), (0, 0, 0)]
    assert measured.costs[0].max_drawdown == 117.5
    assert measured.break_even_cost.value == pytest.approx(-87.5 / 3)
    assert measured.break_even_ticks == pytest.approx(-7 / 3)
    assert measured.turnover == 1.0
    assert measured.exposure == pytest.approx(10 / 11)  # minutes 0 to 9 of day 0, one of day 1, none of one on day 2
    assert measured.verdict == "no evidence"
    for kind in ("volatility", "hours", "hour, Chicago", "contract"):
        parts = [regime for regime in measured.regimes if regime.kind == kind]
        assert sum(part.net for part in parts) == pytest.approx(measured.costs[0].net)
        assert sum(part.rows for part in parts) == 10
    assert {r.name for r in measured.regimes if r.kind == "hour, Chicago"} == {"08:00"}
    assert {r.name for r in measured.regimes if r.kind == "hours"} == {"RTH"}


def test_volatility_regime_is_that_of_the_session_before(instrument):
    """Earlier sessions with steps of 1 to 6 ticks; later ones after 6, 1 and 3 ticks: high, low, middle."""
    earlier = decisions([(d, m, 20_000 + m * (d + 1), 0.0) for d in range(6) for m in range(3)])
    size = {6: 1, 7: 3, 8: 9}
    later = decisions([(d, m, 20_000 + m * size[d], 0.0) for d in size for m in range(3)])
    measured = evaluate_policy(
        policy("reversal", 0.0),
        earlier,
        later,
        draw(3, samples=100, confidence=0.95, seed=1),
        rank_ic=None,
        instrument=instrument,
        round_turn_cost=0.0,
    )
    volatility = {r.name: r.rows for r in measured.regimes if r.kind == "volatility"}
    assert volatility == {"low": 3, "middle": 3, "high": 3}


def loop(expected, rows, rule, band, keep, hold):
    """Trade bar by bar, as a trader would."""
    found, position, opened, key = [], 0, 0, None
    keys = list(zip(rows.frame["contract"], rows.frame["session"], strict=True))
    for i, move in enumerate(expected):
        if keys[i] != key:
            position, key = 0, keys[i]
        if abs(move) > band:
            position, opened = (1 if move > 0 else -1), rows.minute[i]
        else:
            expired = rule == "horizon" and rows.minute[i] - opened >= hold
            faded = rule == "decay" and position * move < keep * band
            position = 0 if expired or faded else position
        if i + 1 == len(keys) or keys[i + 1] != key:
            position = 0
        found.append(position)
    return found


MARKETS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(-8, 8), st.sampled_from([-3, -2, -1, -0.5, 0, 0.5, 1, 2, 3])),
    min_size=2,
    max_size=60,
)


def market(steps, days=3):
    minute = np.cumsum([gap for gap, *_ in steps])
    entry = 20_000 + np.cumsum([move for _, move, _ in steps])
    day = np.arange(len(steps)) * days // len(steps)
    signal = [each for *_, each in steps]
    return list(zip(day.tolist(), minute.tolist(), entry.tolist(), signal, strict=True))


@settings(max_examples=150, deadline=None)
@given(
    MARKETS,
    st.sampled_from(["horizon", "reversal", "decay"]),
    st.sampled_from([0.0, 0.5, 1.0, 2.5]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 5),
)
def test_positions_equal_those_of_a_loop_over_bars(steps, rule, band, keep, hold):
    rows = decisions(market(steps))
    trades = apply_policy(policy(rule, band, keep=keep, hold=hold), rows)
    assert trades.position.tolist() == loop(rows.signal, rows, rule, band, keep, hold)


@settings(max_examples=50, deadline=None)
@given(MARKETS, st.sampled_from(["horizon", "reversal", "decay"]))
def test_infinite_band_never_trades(steps, rule):
    trades = apply_policy(policy(rule, float("inf"), keep=0.5), decisions(market(steps)))
    assert not trades.position.any()
    assert not trades.sides.any()


@settings(max_examples=50, deadline=None)
@given(MARKETS)
def test_band_zero_with_reversal_is_always_in_the_market(steps):
    rows = decisions([(d, m, e, s or 1.0) for d, m, e, s in market(steps)])
    trades = apply_policy(policy("reversal", 0.0), rows)
    assert np.array_equal(trades.position, np.where(rows.last, 0.0, np.sign(rows.signal)))
    assert trades.gross.sum() == (np.sign(rows.signal) * rows.step).sum()


@settings(max_examples=50, deadline=None)
@given(MARKETS, st.sampled_from(["horizon", "reversal", "decay"]), st.integers(0, 59))
def test_later_rows_never_change_earlier_positions(steps, rule, cut):
    cut = min(cut, len(steps) - 1)
    changed = [*steps[: cut + 1], *((gap, -move, -signal) for gap, move, signal in steps[cut + 1 :])]
    before, after = (apply_policy(policy(rule, 0.5, hold=3), decisions(market(s))).position for s in (steps, changed))
    assert before[: cut + 1].tolist() == after[: cut + 1].tolist()


@settings(max_examples=50, deadline=None)
@given(MARKETS, st.sampled_from(["horizon", "reversal", "decay"]))
def test_sessions_traded_apart_earn_the_same(steps, rule):
    spans, chosen = market(steps), policy(rule, 0.5, hold=3)
    whole = apply_policy(chosen, decisions(spans)).gross.sum()
    parts = [[span for span in spans if span[0] == day] for day in range(3)]
    assert whole == sum(apply_policy(chosen, decisions(part)).gross.sum() for part in parts if part)


def test_new_contract_and_absent_price_open_nothing():
    rows = decisions(
        [(0, 0, 100, 1.0), (0, 1, float("nan"), -5.0), (0, 2, 104, 1.0), (0, 3, 200, 1.0)],
        contract=["ESH25", "ESH25", "ESH25", "ESM25"],
    )
    trades = apply_policy(policy("reversal", 0.0), rows)
    assert trades.position.tolist() == [1, 0, 0]
    assert trades.gross.sum() == 4.0
    assert trades.sides.tolist() == [1, 1, 0]


def random_market(strength, *, sessions=60, bars=120, seed=3, kept=10):
    """Steps of noise plus ``strength`` times a signal that changes every ``kept`` bars; the label is the next step."""
    rng = np.random.default_rng(seed)
    signal = np.repeat(rng.standard_normal(sessions * bars // kept), kept)
    steps = strength * signal + 2.0 * rng.standard_normal(signal.size)
    entry = 20_000 + np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    day, minute = np.divmod(np.arange(signal.size), bars)
    rows = decisions(list(zip(day.tolist(), minute.tolist(), entry.tolist(), signal.tolist(), strict=True)), horizon=1)
    return replace(rows, move=steps)


def test_slope_by_hand_is_shrunk_by_its_error_and_never_negative():
    rows = random_market(1.0)
    x, y = rows.signal, rows.move
    raw = (x @ y) / (x @ x)
    error = np.sqrt(sum((x[d] @ (y[d] - raw * x[d])) ** 2 for d in (rows.block == k for k in range(60)))) / (x @ x)
    slope, found = fit_slope(rows)
    assert found == pytest.approx(error)
    assert slope == pytest.approx(raw * (1 - (error / raw) ** 2))
    assert fit_slope(random_market(-1.0))[0] == 0.0


def test_skill_above_the_cost_is_traded_and_skill_below_is_not():
    assert choose_policy(random_market(1.0), cost=2.0).band is not None
    assert choose_policy(random_market(0.05), cost=2.0).band is None
    assert choose_policy(random_market(-1.0), cost=0.0).band is None


def test_prohibitive_cost_ends_in_no_trade():
    assert choose_policy(random_market(1.0), cost=1000.0).band is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_with_costs_ends_in_no_trade(seed):
    assert choose_policy(random_market(0.0, seed=seed), cost=2.36).band is None


def test_slow_noise_rarely_ends_in_trades():
    """A slow signal is nearly one bet a session, so that luck of many bands and rules is largest."""
    chosen = [choose_policy(random_market(0.0, seed=seed, kept=120), cost=2.36) for seed in range(40)]
    assert sum(policy.band is not None for policy in chosen) <= 2


def test_four_sessions_are_too_few_to_choose_a_policy():
    assert choose_policy(random_market(1.0, sessions=4), cost=0.0).rule == "none"


@pytest.mark.parametrize(
    ("rank_ic", "gross", "net", "double", "expected"),
    [
        ((0.01, 0.03), (5, 9), (1, 4), 10.0, "tradeable"),
        ((0.01, 0.03), (5, 9), (1, 4), -1.0, "predictive, not tradeable"),
        ((0.01, 0.03), (-5, 9), (-9, 4), -1.0, "predictive, not tradeable"),
        ((-0.01, 0.03), (5, 9), (-1, 4), 1.0, "predictive, not tradeable"),
        ((-0.01, 0.03), (-5, 9), (-9, 4), -1.0, "no evidence"),
        (None, None, None, 0.0, "no evidence"),
    ],
)
def test_verdict_follows_the_intervals(rank_ic, gross, net, double, expected):
    def interval(bounds):
        return None if bounds is None else Interval(sum(bounds) / 2, *bounds)

    assert verdict(interval(rank_ic), interval(gross), interval(net), double) == expected
