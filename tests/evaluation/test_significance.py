"""Tests of significance: published examples, values of independent implementations, and known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arch.bootstrap import StepM, optimal_block_length
from scipy.stats import norm, ttest_1samp

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.evaluation.significance import (
    deflated_sharpe,
    diebold_mariano,
    effective_trials,
    expected_best_sharpe,
    minimum_track_record,
    overfitting_probability,
    probabilistic_sharpe,
    sharpe_error,
    superiority,
)


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    """500 periods of 6 trials."""
    return np.random.default_rng(7).standard_t(5, (500, 6)) * 0.01 + 0.0008


def test_deflated_sharpe_of_the_published_example():
    """Bailey and Lopez de Prado (2014), numerical example: 100 trials, 1,250 days, 0.1132 and 0.9004."""
    sharpe, best = 2.5 / math.sqrt(250), expected_best_sharpe(100, 0.5 / 250)
    assert best == pytest.approx(0.1132, abs=5e-5)
    assert norm.cdf((sharpe - best) / sharpe_error(sharpe, 1250, -3, 10)) == pytest.approx(0.9004, abs=5e-5)


def test_sharpe_probabilities_equal_those_of_skfolio(returns):
    """``skfolio`` 1.12.2, probabilistic_sharpe_ratio and deflated_sharpe_ratio."""
    assert probabilistic_sharpe(returns[:, 0]) == pytest.approx(0.4725672042743243)
    assert probabilistic_sharpe(returns[:, 1]) == pytest.approx(0.7831359907958619)
    sharpes = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    assert deflated_sharpe(returns[:, 0], 6, sharpes.var(ddof=1)) == pytest.approx(0.20821379756629887)


def test_overfitting_probability_equals_that_of_purgedcv(returns):
    """``purgedcv`` 0.1.11, probability_of_backtest_overfitting with 10 splits."""
    assert overfitting_probability(returns) == pytest.approx(0.7658730158730159)


def test_a_trial_with_an_edge_is_no_overfitting(returns):
    assert overfitting_probability(returns + np.array([0.01, 0, 0, 0, 0, 0])) == 0.0


def test_a_transposed_array_is_an_error(returns):
    with pytest.raises(InvalidValueError, match="two periods in each"):
        overfitting_probability(returns[:6].T)


def test_minimum_track_record_is_the_length_at_which_the_sharpe_becomes_significant():
    sample = np.random.default_rng(3).normal(0.1, 1.0, 400)
    needed = minimum_track_record(sample)
    sharpe = sample.mean() / sample.std(ddof=1)
    error = sharpe_error(sharpe, 400, 0.0, 3.0) * math.sqrt(399 / (needed - 1))
    assert sharpe / error == pytest.approx(norm.ppf(0.95), rel=0.02)  # skewness and kurtosis are not exactly normal
    assert minimum_track_record(-np.abs(sample)) == math.inf


def test_trials_that_are_copies_count_as_one():
    one = np.random.default_rng(3).normal(size=(300, 1))
    assert effective_trials(np.repeat(one, 8, axis=1)) == pytest.approx(1.0)
    assert effective_trials(np.random.default_rng(4).normal(size=(2000, 8))) == pytest.approx(8.0, rel=0.05)
    assert effective_trials(np.zeros((10, 3))) == 1.0


def test_diebold_mariano_is_a_t_test_where_sessions_are_independent():
    scores = np.random.default_rng(1).normal(0.1, 1.0, 2000)
    statistic, p_value = diebold_mariano(scores)
    plain = ttest_1samp(scores, 0.0)
    assert statistic == pytest.approx(plain.statistic, rel=0.1)
    assert p_value == pytest.approx(plain.pvalue, abs=1e-3)
    assert diebold_mariano(-scores)[0] == pytest.approx(-statistic)


def test_diebold_mariano_is_more_careful_where_labels_overlap():
    shocks = np.random.default_rng(2).normal(0.05, 1.0, 1004)
    overlapping = np.convolve(shocks, np.ones(5), "valid")
    assert abs(diebold_mariano(overlapping, horizon=5)[0]) < 0.6 * abs(ttest_1samp(overlapping, 0.0).statistic)


def test_scores_without_variance_have_no_test():
    assert all(math.isnan(value) for value in diebold_mariano(np.zeros(50)))
    assert superiority({"one": np.zeros(50)}).p_value == 1.0


def test_one_good_preset_among_many_is_found_and_named():
    generator = np.random.default_rng(9)
    scores = {f"v{number}": generator.normal(0, 1, 300) for number in range(8)}
    assert superiority(scores).p_value > 0.05
    found = superiority(scores | {"v3": generator.normal(0.3, 1, 300)})
    assert found.p_value < 0.01
    assert found.superior == ("v3",)


def step_m(scores, size=0.05, samples=200, seed=11):
    """Romano and Wolf's StepM as arch has it; None where its version 8.0 fails, after a step that found all."""
    losses = -np.stack(list(scores.values()), axis=1)
    block = max(1, round(float(optimal_block_length(losses)["stationary"].max())))
    options = {"block_size": block, "reps": samples, "bootstrap": "stationary", "seed": seed}
    step = StepM(np.zeros(len(losses)), losses, size=size, **options)
    try:
        step.compute()
    except ValueError:
        return None
    return tuple(list(scores)[index] for index in step.superior_models)


def test_superior_presets_are_those_of_stepm_also_where_every_preset_is_one():
    compared = failed = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        scores = {"a": generator.normal(1, 1, 60), "b": generator.normal(1, 1, 60), "c": generator.normal(0.45, 1, 60)}
        expected, found = step_m(scores), superiority(scores, samples=200)
        compared += expected is not None and len(expected) < 3
        failed += expected is None
        assert found.superior == (expected or ("a", "b", "c")), seed
        assert 0 <= found.p_value < 0.05, seed
    assert compared > 0
    assert failed > 0


def test_best_of_many_presets_without_skill_is_no_evidence():
    """In 60 searches over 10 presets the smallest single p-value is below 5 % in a third; SPA in about 5 %."""
    generator, single, corrected = np.random.default_rng(10), 0, 0
    for _ in range(60):
        trials = generator.normal(0, 1, (150, 10))
        single += min(ttest_1samp(trials, 0.0, alternative="greater").pvalue) < 0.05
        scores = {str(number): column for number, column in enumerate(trials.T)}
        corrected += superiority(scores, samples=200).p_value < 0.05
    assert single > 15
    assert corrected <= 8
