"""Intervals: how often they hold the truth, what dependence inside a session does, and arch's answer."""

from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import IIDBootstrap

from vpoc_ml.errors import InsufficientSessionsError
from vpoc_ml.evaluation.bootstrap import draw, tail_probability
from vpoc_ml.evaluation.metrics import ratio


def coverage(sessions: int, *, trials: int = 400, shared: float = 0.3, rows: int = 50) -> float:
    """Share of 95 % intervals that hold the true mean 0 when minutes of a session share a component."""
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(trials):
        values = rng.standard_normal((sessions, rows)) + shared * rng.standard_normal((sessions, 1))
        sums = np.stack([values.sum(axis=1), np.full(sessions, float(rows))], axis=1)
        interval = draw(sessions, samples=400, confidence=0.95, seed=trial).interval(sums, ratio)
        inside += interval.low <= 0 <= interval.high
    return inside / trials


@pytest.mark.parametrize("sessions", [6, 12, 40])
def test_interval_holds_the_truth_about_as_often_as_it_says(sessions):
    assert 0.91 <= coverage(sessions) <= 0.985


def test_blocks_of_single_rows_would_be_far_too_sure():
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        values = (rng.standard_normal((12, 50)) + 0.5 * rng.standard_normal((12, 1))).ravel()
        sums = np.stack([values, np.ones_like(values)], axis=1)
        interval = draw(len(values), samples=200, confidence=0.95, seed=trial).interval(sums, ratio)
        inside += interval.low <= 0 <= interval.high
    assert inside / 200 < 0.75


def test_bounds_agree_with_arch_at_the_same_quantiles():
    rng = np.random.default_rng(4)
    sums = np.stack([rng.normal(10, 3, 30), rng.uniform(80, 120, 30)], axis=1)
    ours = draw(30, samples=20_000, confidence=0.95, seed=1).interval(sums, ratio)
    size = 1 - 2 * tail_probability(0.95, 30)
    arch = IIDBootstrap(sums, seed=2).conf_int(
        lambda drawn: np.atleast_1d(ratio(drawn.sum(axis=0))), reps=20_000, method="percentile", size=size
    )
    assert [ours.low, ours.high] == pytest.approx(arch.ravel().tolist(), rel=0.01)


def test_same_seed_gives_the_same_resamples_and_each_has_all_sessions_draws():
    first, again = (draw(7, samples=100, confidence=0.95, seed=3).counts for _ in range(2))
    assert (first == again).all()
    assert (first.sum(axis=1) == 7).all()
    assert (first != draw(7, samples=100, confidence=0.95, seed=4).counts).any()


def test_two_sessions_are_too_few():
    with pytest.raises(InsufficientSessionsError, match="at least 3 sessions"):
        draw(2, samples=100, confidence=0.95, seed=1)


def test_expansion_fades_with_many_sessions():
    assert tail_probability(0.95, 3) < 1e-6
    assert tail_probability(0.95, 12) == pytest.approx(0.0108, abs=1e-4)
    assert tail_probability(0.95, 5000) == pytest.approx(0.025, abs=1e-4)


def test_undefined_statistic_has_no_interval():
    resamples = draw(3, samples=100, confidence=0.95, seed=1)
    assert resamples.interval(np.zeros((3, 2)), ratio) is None


def test_resamples_without_the_statistic_are_left_out():
    sums = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    interval = draw(3, samples=500, confidence=0.95, seed=1).interval(sums, ratio)
    assert (interval.value, interval.low, interval.high) == (0.75, 0.75, 0.75)
