"""How parts are mixed: weights against slow search, order of the parts, trees and their text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import CheckpointError
from vpoc_ml.models.build import build_model, stored_target
from vpoc_ml.models.bundle import load_model, save_model
from vpoc_ml.models.forecaster import Forecaster, best_weights
from vpoc_ml.models.stacking import mix
from vpoc_ml.models.trees import Trees, fit_trees

from .conftest import statistics_of

NAMES = ["mom_60m", "vwap", "rv_30", "tod_sin"]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_weights_are_those_of_a_bounded_regression_with_its_prior(seed):
    rng = np.random.default_rng(seed)
    ranks = rng.random(400)
    parts = 0.5 + rng.normal(0, 0.1, (3, 400)) + rng.uniform(-0.2, 0.6, (3, 1)) * (ranks - 0.5)
    weights = best_weights(parts, ranks)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    alike = np.polyfit(parts.mean(axis=0), ranks, 1)[0] / 3
    if alike <= 0:
        expected = np.full(3, 1 / 3)
    else:  # the intercept is a column of its own, of either sign; the prior is three rows more
        pull = ranks.std() / (alike / 2)
        design = np.vstack((np.column_stack((parts.T, np.ones(400))), pull * np.eye(4)[:3]))
        wanted = np.append(ranks, [pull * alike] * 3)
        found = lsq_linear(design, wanted, bounds=([0, 0, 0, -np.inf], np.inf), tol=1e-14).x[:3]
        expected = found / found.sum()
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def golden(copies: int) -> np.ndarray:
    first, second = np.array([1.0, -1.0, 1.0, -1.0]), np.array([2.0, 2.0, -2.0, -2.0])
    ranks = np.append(0.5 + 0.06 * first + 0.01 * second, np.nan)  # 0.06 : 0.01, so 6/7 and 1/7
    parts = np.array([[*(0.4 + first), 7.0], [*(0.9 + second), 7.0], [*(0.5 - first / 2), 7.0]])
    return best_weights(np.tile(parts, copies), np.tile(ranks, copies))


def test_weights_golden_example_with_many_rows():
    np.testing.assert_allclose(golden(100_000), [6 / 7, 1 / 7, 0], atol=1e-3)


def test_few_rows_leave_the_weights_near_each_other():
    rng = np.random.default_rng(3)
    ranks = rng.random(60)
    parts = 0.5 + 0.01 * (rng.normal(size=(2, 60)) + ranks)
    assert np.abs(best_weights(parts, ranks) - 0.5).max() < 0.1


@pytest.mark.parametrize("parts", [np.tile(np.linspace(0, 1, 9), (3, 1)), np.full((2, 9), 0.5)])
def test_weights_of_equal_parts_and_of_constants_are_numbers(parts):
    weights = best_weights(parts, np.linspace(0, 1, 9))
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1)


def test_parts_that_report_nothing_or_the_opposite_count_alike():
    ranks = np.linspace(0, 1, 9)
    np.testing.assert_allclose(best_weights(np.stack((np.full(9, 0.5), 1 - ranks)), ranks), [0.5, 0.5])


def test_a_rows_mix_does_not_depend_on_the_other_rows():
    rng = np.random.default_rng(1)
    parts, weights = rng.random((7, 1_001)), rng.random(7)
    whole = mix(parts, weights)
    assert all(mix(parts[:, [row]], weights)[0] == whole[row] for row in range(0, 1_001, 50))


@pytest.mark.parametrize("target", ["rank", "binary", "multiclass", "quantiles"])
def test_parts_are_the_means_of_their_members_scores(target):
    statistics = statistics_of(NAMES, target)
    config = ModelConfig(kind="mlp", hidden_dims=(8,), members=2, groups=("volatility", "price"))
    body = build_model(config, statistics).eval().body
    with torch.no_grad():
        for weight in body.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    rows = torch.randn(6, 4)
    fitted = stored_target(statistics)
    parts = Forecaster(body, fitted).parts(rows)
    with torch.no_grad():
        outputs = body(rows).double().numpy()
    scores = [each if fitted is None else fitted.score(each) for each in outputs]
    np.testing.assert_allclose(parts, [(scores[0] + scores[1]) / 2, (scores[2] + scores[3]) / 2], rtol=1e-12)


@pytest.fixture(scope="module")
def fitted_trees():
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(6_000, 4)).astype(np.float32)
    ranks = np.clip(0.5 + 0.2 * np.sign(inputs[:, 0]) + rng.normal(0, 0.1, 6_000), 0, 1)
    ranks[::50] = np.nan
    train, validation = (inputs[:4_000], ranks[:4_000]), (inputs[4_000:], ranks[4_000:])
    return fit_trees(train, validation, seed=3), inputs, ranks, (train, validation)


def test_trees_learn_and_are_the_same_again(fitted_trees):
    trees, inputs, ranks, parts = fitted_trees
    predicted = trees.predict(inputs)
    assert np.corrcoef(predicted[4_000:], np.nan_to_num(ranks[4_000:], nan=0.5))[0, 1] > 0.8
    assert fit_trees(*parts, seed=3).text == trees.text
    assert np.array_equal(Trees(trees.text).predict(inputs), predicted)
    assert trees.predict(inputs[7:8])[0] == predicted[7]


def test_other_text_is_no_model():
    with pytest.raises(CheckpointError, match="LightGBM"):
        _ = Trees("not a model").booster


def test_a_stored_blend_predicts_the_same_and_says_its_parts(fitted_trees, tmp_path):
    trees, inputs, _, _ = fitted_trees
    config = ModelConfig(
        kind="mlp_batchnorm", hidden_dims=(8,), members=2, groups=("all", "price"), encoding="piecewise_linear(bins=4)"
    )
    net = build_model(config, statistics_of(NAMES)).eval()
    parts = [{"name": n, "weight": w} for n, w in (("all", 0.5), ("price", 0.2), ("lightgbm", 0.3))]
    model_card = ModelCard(features=NAMES, model=config, zero_rank=0.5, parts=parts, groups=net.body.columns)
    path = save_model(tmp_path, "best_model", net, model_card, trees)
    loaded = load_model(path)
    expected = Forecaster(net.body, None, trees, np.array([0.5, 0.2, 0.3])).scores(net.guard(torch.tensor(inputs)))
    assert np.array_equal(loaded.predict(inputs), expected)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best_model.json", "best_model.safetensors"]


@pytest.mark.parametrize("parts", [[], [{"name": "all", "weight": 1.0}], [{"name": "price", "weight": 1.0}] * 2])
def test_parts_that_are_not_the_models_are_refused(fitted_trees, tmp_path, parts):
    net = build_model(ModelConfig(hidden_dims=(8,)), statistics_of(NAMES))
    model_card = ModelCard(features=NAMES, model=ModelConfig(hidden_dims=(8,)), zero_rank=0.5, parts=parts)
    path = save_model(tmp_path, "best_model", net, model_card, fitted_trees[0])
    with pytest.raises(CheckpointError, match="expected the parts all, lightgbm"):
        load_model(path)
