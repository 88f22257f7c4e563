"""HAR: realised variance and forecast compared with statsmodels' least squares on explicit rows."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from vpoc_ml.features.extras.har import LONGEST_FIT, SESSIONS, SHORTEST_FIT, forecast_of


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


def test_surprise_is_the_last_sessions_variance_less_its_forecast(thin, extras):
    found = extras(thin.bars, None, families=("har",)).with_columns(thin.bars["open", "close"])
    variance = []
    for day in found.partition_by("session", maintain_order=True):
        path = np.log([day["open"][0], *day["close"]])
        variance.append(max(float(np.sum((100 * np.diff(path)) ** 2)), 1e-6))
    days = found["session"].unique(maintain_order=True)
    for at in (53, 70, 91):
        rows = found.filter(pl.col("session") == days[at])
        expected = math.log(variance[at - 1]) - forecast_of(np.array(variance[: at - 1])[-82:])
        assert rows["har_surprise_1d"].to_list() == pytest.approx([expected] * rows.height, abs=1e-5)
