"""GARCH: steps and season by hand, recursion and fit compared with the arch package, fallback where a fit fails."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from arch import arch_model

from vpoc_ml.features.extras import garch
from vpoc_ml.features.extras.garch import Garch, Steps, filtered, fit, five_minutes, forecasts, season_of, shocks

LONG = 276


def simulated(sessions: int, seed: int = 1) -> list[Steps]:
    """Sessions of a GARCH(1,1) with omega 0.5, alpha 0.08, beta 0.9, louder by day than at night."""
    draw, variance, parts = np.random.default_rng(seed), 25.0, []
    slot = np.arange(1, LONG) // 6
    loud = np.where(slot >= 31, 4.0, 0.5)
    for _ in range(sessions):
        values = np.empty(LONG - 1)
        for at in range(LONG - 1):
            values[at] = np.sqrt(variance) * draw.standard_normal()
            variance = 0.5 + 0.08 * values[at] ** 2 + 0.9 * variance
        parts.append(Steps(values * np.sqrt(loud), slot))
    return parts


@pytest.fixture(scope="module")
def sessions() -> list[Steps]:
    return simulated(26)


def test_five_minutes_by_hand_with_a_gap():
    minute = np.array([3, 4, 5, 9, 21, 22])
    close = np.array([100.0, 101.0, 102.0, 103.0, 104.0, 105.0])
    found = five_minutes(minute, close)
    expected = 1e4 * np.log([103 / 101, 1, 1, 105 / 103])
    np.testing.assert_allclose(found.returns, expected, atol=1e-6)
    assert found.slot.tolist() == [0, 0, 0, 0]
    assert five_minutes(np.array([29, 30, 61]), np.ones(3)).slot.tolist() == [1, 1, 1, 1, 1, 1, 2]
    assert five_minutes(np.array([7, 8]), np.ones(2)).returns.size == 0


def test_season_by_hand():
    steps = Steps(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    season = season_of([steps, steps])
    assert season[:3].tolist() == [0.2, 1.8, 1.0]
    assert season_of([Steps(np.zeros(4), np.arange(4))]).tolist() == [1.0] * 46
    assert season_of([Steps(np.array([0.0, 5.0]), np.arange(2))])[0] == garch.SMALLEST_SEASON
    np.testing.assert_allclose(shocks([steps], season), steps.returns / np.sqrt([0.2, 0.2, 1.8, 1.8]))


def test_the_recursion_equals_that_of_arch():
    values = np.random.default_rng(2).normal(0, 4, 800)
    fixed = arch_model(values, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fix([0.6, 0.07, 0.89])
    found = filtered(values, 0.6, 0.07, 0.89, fixed.conditional_volatility[0] ** 2)
    np.testing.assert_allclose(np.sqrt(found[:-1]), fixed.conditional_volatility, rtol=1e-12)


def test_the_fit_is_that_of_arch_on_the_last_20_sessions_and_finds_the_process(sessions):
    found = fit(sessions)
    values = shocks(sessions[-20:], season_of(sessions[-20:]))
    omega, alpha, beta = arch_model(values, mean="Zero", rescale=False).fit(disp="off").params
    assert found == Garch(omega, alpha, beta, 0)
    assert found.alpha == pytest.approx(0.08, abs=0.03)
    assert found.beta == pytest.approx(0.9, abs=0.04)
    assert fit([*simulated(3, seed=9), *sessions[-20:]]) == found


def test_the_last_digits_of_prices_change_nothing(sessions):
    minute = np.arange(0, 1380, 5)
    close = 20_000 * np.exp(np.concatenate(([0], np.cumsum(sessions[0].returns))) / 1e4)
    found, scaled = five_minutes(minute, close), five_minutes(minute, close * 1.0137)
    np.testing.assert_array_equal(found.returns, scaled.returns)


def test_a_failed_fit_takes_the_parameters_of_the_newest_that_converged(sessions, monkeypatch):
    real, requests = garch.converged_fit.__wrapped__, []

    def failing(times: int) -> None:
        requests.clear()
        monkeypatch.setattr(
            garch,
            "converged_fit",
            lambda values: requests.append(values) or (real(values) if len(requests) > times else None),
        )

    older = fit(sessions[:-2])
    failing(2)
    found = fit(sessions)
    assert (found.alpha, found.beta, found.age) == (older.alpha, older.beta, 2)
    values = shocks(sessions[-20:], season_of(sessions[-20:]))
    assert found.omega == pytest.approx(np.mean(values**2) * (1 - older.alpha - older.beta))
    failing(99)
    found = fit(sessions)
    assert (found.alpha, found.beta, found.age) == (*garch.DEFAULT, -1)
    assert len(requests) == 1 + garch.EARLIER_FITS


def test_flat_or_few_returns_are_not_fitted_and_give_finite_forecasts():
    flat = [Steps(np.zeros(100), np.arange(1, 101) // 6)] * 20
    model = fit(flat)
    assert model == Garch(0.0, *garch.DEFAULT, -1)
    found = forecasts(np.arange(0, 60), np.full(60, 5000.0), model, flat)
    assert (found[:2] == 0).all()
    few = [Steps(np.array([1.0, -2.0]), np.array([0, 1]))] * 20
    assert fit(few).age == -1


def test_forecasts_by_hand():
    window = [Steps(np.array([3.0, -3.0] * 6), np.zeros(12, np.int64))] * 20
    model = Garch(2.0, 0.1, 0.8, 0)
    minute, close = np.array([0, 4, 5, 9, 14]), np.array([100.0, 100.0, 100.0, 101.0, 101.0])
    volatility, ratio, persistence = forecasts(minute, close, model, window)
    variance = 9.0
    for value in [9.0] * 240:
        variance = 2 + 0.1 * value + 0.8 * variance
    # the first five minutes have no return; the second's is known at minute 9, the third's, 0, at minute 14
    after = 2 + 0.1 * (1e4 * np.log(1.01)) ** 2 + 0.8 * variance
    last = 2 + 0.8 * after
    expected = np.sqrt(276 * np.array([variance, variance, variance, after, last])) / 100
    np.testing.assert_allclose(volatility, expected, rtol=1e-6)
    assert ratio[0] == pytest.approx(np.log(variance / 9) / 2)
    hour = ((1e4 * np.log(1.01)) ** 2 + 11 * 9) / 12
    assert ratio[3] == pytest.approx(np.log(after / hour) / 2, rel=1e-6)
    assert persistence.tolist() == pytest.approx([0.9] * 5)


def test_a_day_of_louder_bars_raises_the_forecast(sessions):
    model, minute = fit(sessions), np.arange(LONG * 5)
    quiet = forecasts(minute, np.full(minute.size, 5000.0), model, sessions[-20:])
    swings = 5000.0 * np.exp(2e-3 * np.sin(minute / 9))
    assert (forecasts(minute, swings, model, sessions[-20:])[0, 200:] > quiet[0, 200:]).all()


def test_older_parameters_are_counted_in_the_log(thin, extras, monkeypatch, caplog):
    monkeypatch.setattr(garch, "converged_fit", lambda values: None)
    with caplog.at_level(logging.WARNING):
        extras(thin.bars.head(800), None, families=("garch",))
    counted = thin.bars.head(800)["session"].n_unique()
    assert f"GARCH: {counted - 20} of {counted} sessions use older parameters" in caplog.text
