"""HAR: realised variance and forecast against statsmodels' least squares on rows written out one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from vpoc_ml.features.extras.har import LONGEST_FIT, SESSIONS, SHORTEST_FIT, forecast_of, realised_variance


def slow(variance: np.ndarray) -> float:
    def row(session: int) -> list[float]:
        return [math.log(np.mean(variance[session - days : session])) for days in (1, 5, 22)]

    sessions = list(range(22, variance.size))[-LONGEST_FIT:]
    fit = sm.OLS(np.log(variance[sessions]), sm.add_constant(np.array([row(s) for s in sessions]))).fit()
    return float(fit.params @ np.array([1.0, *row(variance.size)]))


@pytest.mark.parametrize("sessions", [52, 60, 82, 120])
def test_forecast_equals_least_squares(sessions):
    variance = np.exp(np.random.default_rng(sessions).normal(0, 0.6, sessions))
    assert forecast_of(variance) == pytest.approx(slow(variance), rel=1e-8)


def test_only_the_last_82_sessions_matter():
    variance = np.exp(np.random.default_rng(3).normal(0, 0.6, 120))
    other = variance.copy()
    other[: -(SESSIONS - 1)] *= 7
    assert forecast_of(variance[-(SESSIONS - 1) :]) == pytest.approx(forecast_of(other), rel=1e-9)


def test_fewer_sessions_than_thirty_of_a_fit_give_none():
    assert math.isnan(forecast_of(np.ones(22 + SHORTEST_FIT - 1)))
    assert forecast_of(np.full(22 + SHORTEST_FIT, 2.0)) == pytest.approx(math.log(2))


def test_forecast_recovers_a_known_relation():
    draw, logs = np.random.default_rng(9), [0.0] * 22
    for _ in range(400):
        mean5, mean22 = (math.log(np.mean(np.exp(logs[-n:]))) for n in (5, 22))
        logs.append(0.4 * logs[-1] + 0.3 * mean5 + 0.2 * mean22 + draw.normal(0, 0.3))
    errors = [logs[s] - forecast_of(np.exp(logs[max(0, s - 82) : s])) for s in range(100, 422)]
    naive = [logs[s] - logs[s - 1] for s in range(100, 422)]
    assert np.std(errors) == pytest.approx(0.3, rel=0.15)
    assert np.std(errors) < 0.95 * np.std(naive)


def test_realised_variance_by_hand_leaves_the_break_out_and_floors_a_flat_session():
    day = np.array([0, 0, 0, 1, 1, 2, 2])
    close = np.array([100.0, 101.0, 100.0, 150.0, 150.0, 80.0, 81.0])
    found = realised_variance(day, close)
    one = (100 * math.log(1.01)) ** 2
    assert found.tolist() == pytest.approx([2 * one, 1e-6, (100 * math.log(81 / 80)) ** 2], rel=1e-9)


def test_realised_variance_of_a_session_does_not_depend_on_those_before():
    draw = np.random.default_rng(5)
    day, close = np.repeat(np.arange(20), 50), 5000 + np.cumsum(draw.normal(0, 1, 1000))
    whole = realised_variance(day, close)
    np.testing.assert_array_equal(realised_variance(day[400:], close[400:]), whole[8:])
