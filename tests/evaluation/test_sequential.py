"""E-processes and confidence sequences: worked examples, an independent implementation, and error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.evaluation.sequential import (
    CLIP,
    FRACTIONS,
    WARM_UP,
    bounded,
    log_detector,
    log_wealth,
    lower_bound,
)


def test_wealth_of_three_sessions_by_hand():
    values = np.array([1.0, -0.5, 0.25])
    expected = [np.prod([1 + f * v for v in values]) for f in FRACTIONS]
    assert math.exp(log_wealth(values)[-1]) == pytest.approx(np.mean(expected))


def test_wealth_equals_that_of_confseq():
    """``confseq`` 0.0.11, betting_mart with the same constant bets on (x + 1) / 2, one-sided, mean 0.5."""
    values = np.random.default_rng(3).uniform(-0.6, 1.0, 200)
    found = log_wealth(values)[[0, 49, 99, 199]]
    np.testing.assert_allclose(found, [-0.13310581, 4.03133005, 9.31284202, 20.85206437], rtol=1e-7)


def test_confidence_sequence_is_nearly_as_narrow_as_that_of_confseq():
    """``confseq`` 0.0.11, betting_cs at 95 % of the same values: 0.12 to 0.30."""
    values = np.random.default_rng(3).uniform(-0.6, 1.0, 200)
    low, high = lower_bound(values, 0.025), -lower_bound(-values, 0.025)
    assert low < 0.2 < high
    assert high - low < 1.15 * 0.18


def test_scale_of_a_session_uses_earlier_sessions_only():
    scores = np.random.default_rng(5).normal(0.2, 1.0, 60)
    found = bounded(scores)
    assert np.isnan(found[:WARM_UP]).all()
    assert np.isfinite(found[WARM_UP:]).all()
    first = scores[WARM_UP] / (CLIP * math.sqrt((scores[:WARM_UP] ** 2).mean()))
    assert found[WARM_UP] == pytest.approx(min(max(first, -1), 1))
    changed = scores.copy()
    changed[40:] = 100.0
    np.testing.assert_array_equal(bounded(changed)[:40], found[:40])


def test_overlapping_labels_count_once_in_so_many_sessions():
    scores = np.random.default_rng(5).normal(0.2, 1.0, 60)
    found = bounded(scores, stride=3)
    assert np.isnan(np.delete(found, np.arange(0, 60, 3))).all()
    np.testing.assert_array_equal(found[::3], bounded(scores[::3]))


def test_missing_and_constant_scores_are_no_evidence():
    assert np.isnan(bounded(np.zeros(50))).all()
    assert log_wealth(bounded(np.full(50, np.nan)))[-1] == pytest.approx(0.0)
    with_gap = np.random.default_rng(1).normal(1.0, 1.0, 50)
    with_gap[25] = np.nan
    assert log_wealth(bounded(with_gap))[25] == log_wealth(bounded(with_gap))[24]


def test_candidates_without_skill_reach_forty_to_one_less_often_than_one_time_in_forty():
    """600 years of 500 nights, heavy tails, volatility that changes: at most 1 / 40 = 15 years, plus 2 errors."""
    generator, years, nights = np.random.default_rng(20261129), 600, 500
    volatility = np.exp(np.cumsum(generator.normal(0, 0.1, (years, nights)), axis=1))
    scores = generator.standard_t(3, (years, nights)) * volatility
    ever = sum(log_wealth(bounded(year)).max() >= math.log(40) for year in scores)
    assert ever <= 15 + 2 * math.sqrt(15)


def test_lower_bound_holds_on_all_nights_at_once():
    """400 years: the bound ever exceeds the true mean in at most 5 % of them, plus 2 errors."""
    generator, wrong = np.random.default_rng(7), 0
    for _ in range(400):
        values = generator.choice([-1.0, 0.2, 0.6], 150, p=[0.2, 0.5, 0.3])  # mean 0.08
        wrong += any(lower_bound(values[:night], 0.05) > 0.08 for night in range(10, 151, 10))
    assert wrong <= 20 + 2 * math.sqrt(20)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_lower_bound_is_the_mean_at_which_the_evidence_reaches_the_level(values):
    array = np.array(values)
    low = lower_bound(array, 0.05)
    assert -1.0 <= low <= array.mean() + 1e-6
    if low > -1.0:
        shifted = (array - low) / (1 + low)
        assert log_wealth(np.clip(shifted, -1, None))[-1] == pytest.approx(math.log(20), abs=1e-3)


def test_detector_sees_that_a_signal_dies_although_the_good_time_was_long():
    generator = np.random.default_rng(11)
    scores = np.append(generator.normal(0.3, 1.0, 400), generator.normal(-0.7, 1.0, 60))
    values = bounded(-scores)
    assert log_wealth(values)[-1] < math.log(250)
    detected = np.flatnonzero(log_detector(values) >= math.log(250))
    assert 400 < detected[0] < 440


def test_detector_raises_few_false_alarms():
    """The mean time to a false alarm at L = 250 is at least 250 nights."""
    generator, times = np.random.default_rng(12), []
    for _ in range(150):
        alarms = np.flatnonzero(log_detector(bounded(generator.normal(0, 1, 1000))) >= math.log(250))
        times.append(alarms[0] if len(alarms) else 1000)
    assert np.mean(times) >= 250
