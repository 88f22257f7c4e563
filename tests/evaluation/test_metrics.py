"""Metrics by hand, against scipy, and against the published losses of a constant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.evaluation.bootstrap import draw
from vpoc_ml.evaluation.forecasts import Forecast, LabelledRows, average_ranks
from vpoc_ml.evaluation.metrics import compare, correlation, describe, hits, huber, reduce


def evaluated(ret, y=None, sessions=3) -> LabelledRows:
    ret = np.asarray(ret, dtype=float)
    y = rankdata(ret) / len(ret) if y is None else np.asarray(y, dtype=float)
    block = np.arange(len(ret)) * sessions // len(ret)
    return LabelledRows(ret, y, block, sessions)


def described(forecast: Forecast, rows: LabelledRows) -> dict:
    return describe(reduce(forecast, rows, 0.1), draw(rows.sessions, samples=100, confidence=0.95, seed=1))


def test_direction_accuracy_leaves_out_unchanged_prices_and_gives_half_for_no_opinion():
    rows = evaluated([0.1, -0.1, 0.0, 0.2, -0.3, 0.1])
    forecast = Forecast("m", np.array([0.6, 0.6, 0.9, 0.5, 0.2, 0.4]), 0.5)
    # right, wrong, (unchanged), no opinion, right, wrong
    assert hits(forecast, rows.ret).tolist() == [1, 0, 0.5, 0.5, 1, 0]
    assert described(forecast, rows).direction_accuracy.value == pytest.approx(2.5 / 5)


def test_threshold_is_the_models_own():
    rows = evaluated([0.1, -0.1, 0.1])
    assert described(Forecast("m", np.full(3, 0.45), 0.4), rows).direction_accuracy.value == pytest.approx(2 / 3)


def test_huber_and_mae_by_hand():
    assert huber(np.array([0.05, -0.1, 0.3, -1.0]), 0.1) == pytest.approx([0.00125, 0.005, 0.025, 0.095])
    rows = evaluated([1, 2, 3], y=[0.2, 0.5, 0.9])
    result = described(Forecast("m", np.array([0.25, 0.5, 0.6]), 0.5), rows)
    assert result.huber.value == pytest.approx((0.00125 + 0 + 0.025) / 3)
    assert result.mae.value == pytest.approx((0.05 + 0 + 0.3) / 3)


def constant_huber(delta: float, zero_share: float = 0.0) -> float:
    """Return the Huber loss of the constant 0.5 on a uniform rank target of which ``zero_share`` is tied.

    The tied ranks sit on their mid-rank at 0.5. 2 [F(1/2) - F(z/2)] with F(u) = u^3/6 for u <= delta,
    else delta^3/6 + delta ((u^2 - delta^2)/2 - delta (u - delta)/2).
    """

    def antiderivative(u: float) -> float:
        if u <= delta:
            return u**3 / 6.0
        return delta**3 / 6.0 + delta * ((u**2 - delta**2) / 2.0 - delta * (u - delta) / 2.0)

    return 2.0 * (antiderivative(0.5) - antiderivative(zero_share / 2.0))


@pytest.mark.parametrize(
    ("zero_share", "published", "mae"),
    [
        (0.0, 0.020333, 0.25),
        (0.1, 0.020292, 0.2475),
        (0.2, 0.02, 0.24),
        (0.3, 0.01925, 0.2275),
        (0.376, 0.018348, 0.2147),
    ],
)
def test_constant_has_the_published_losses(zero_share, published, mae):
    assert constant_huber(0.1, zero_share) == pytest.approx(published, abs=3e-6)
    n = 200_000
    ret = np.linspace(-1, 1, n)
    ret[np.abs(ret) < zero_share] = 0.0
    rows = evaluated(ret, y=(rankdata(ret) - 0.5) / n)
    result = described(Forecast("constant", np.full(n, 0.5), 0.5), rows)
    assert result.huber.value == pytest.approx(constant_huber(0.1, zero_share), abs=2e-6)
    assert result.mae.value == pytest.approx(mae, abs=1e-4)


def test_constant_has_no_rank_ic_and_a_direction_no_loss():
    rows = evaluated([0.1, -0.2, 0.3, 0.0])
    assert described(Forecast("constant", np.full(4, 0.5), 0.5), rows).rank_ic is None
    only = described(Forecast("majority", np.full(4, 0.75), 0.5, direction_only=True), rows)
    assert (only.rank_ic, only.huber, only.mae) == (None, None, None)
    assert only.direction_accuracy.value == pytest.approx(2 / 3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-3, 3)), min_size=6, max_size=60))
def test_rank_ic_is_spearmans_rho_with_ties(pairs):
    prediction, ret = np.asarray(pairs, dtype=float).T
    value = described(Forecast("m", prediction, 0.0), evaluated(ret)).rank_ic
    if np.ptp(prediction) == 0 or np.ptp(ret) == 0:
        assert value is None
    else:
        assert value.value == pytest.approx(spearmanr(prediction, ret).statistic, abs=1e-12)


@given(st.lists(st.one_of(st.integers(-3, 3), st.floats(allow_infinity=False)), max_size=40))
def test_ranks_are_those_of_scipy_whatever_sorts_equal_values(values):
    values = np.asarray(values, dtype=float)
    for order in (np.argsort(values), np.lexsort((-np.arange(values.size), values))):
        np.testing.assert_array_equal(average_ranks(values, order), rankdata(values))


def test_resampled_rank_ic_equals_correlation_of_the_repeated_rows():
    rng = np.random.default_rng(3)
    rows = evaluated(rng.standard_normal(90), sessions=9)
    prediction = rows.ret + rng.standard_normal(90)
    resamples = draw(9, samples=100, confidence=0.9, seed=2)
    draws = resamples.draws(reduce(Forecast("m", prediction, 0.0), rows, 0.1).rank_ic, correlation)
    x, y = rankdata(prediction), rankdata(rows.ret)
    for number in range(5):
        repeated = np.repeat(np.arange(90), resamples.counts[number][rows.block])
        assert draws[number] == pytest.approx(np.corrcoef(x[repeated], y[repeated])[0, 1])


def test_gains_are_paired_and_positive_where_the_candidate_is_better():
    rng = np.random.default_rng(5)
    rows = evaluated(rng.standard_normal(3000), y=None, sessions=30)
    good = Forecast("good", rows.y * 0.3 + 0.35, 0.5)
    poor = Forecast("poor", 0.5 + 0.3 * rng.standard_normal(3000), 0.5)
    resamples = draw(30, samples=300, confidence=0.95, seed=1)
    a, b = reduce(good, rows, 0.1), reduce(poor, rows, 0.1)
    gains = compare(a, b, resamples)
    one, other = describe(a, resamples), describe(b, resamples)
    for name, sign in (("direction_accuracy", 1), ("rank_ic", 1), ("huber", -1)):
        assert getattr(gains, f"{name}_gain").value == pytest.approx(
            sign * (getattr(one, name).value - getattr(other, name).value)
        )
        assert getattr(gains, f"{name}_gain").low > 0
    itself = compare(a, a, resamples).direction_accuracy_gain
    assert itself == Interval(0.0, 0.0, 0.0)
