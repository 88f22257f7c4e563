"""Ridge on guarded features: the normal equations by hand, its penalty, and its place in a stored model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import linear_model

from vpoc_ml.artifacts.model_card import ModelCard, ModelPart
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import CheckpointError
from vpoc_ml.models import ridge as module
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import load_model, save_model
from vpoc_ml.models.forecaster import Forecaster
from vpoc_ml.models.ridge import ALPHAS, Ridge, fit_ridge

from .conftest import statistics_of

NAMES = ["mom_60m", "vwap", "rv_30", "tod_sin"]


def test_the_penalty_with_the_smallest_error_on_validation_rows_by_the_normal_equations():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 3)).astype(np.float32)
    y = 0.5 + 0.03 * x[:, 0] + rng.normal(0, 0.3, 300)
    y[::11] = np.nan
    train, held = (x[:200], y[:200]), (x[200:], y[200:])
    known, held_known = np.isfinite(train[1]), np.isfinite(held[1])
    rows, ranks = train[0][known].astype(float), train[1][known]
    centre, level = rows.mean(axis=0), ranks.mean()
    errors, solutions = [], []
    for alpha in ALPHAS:
        inside = (rows - centre).T @ (rows - centre) + alpha * len(ranks) * np.eye(3)
        beta = np.linalg.solve(inside, (rows - centre).T @ (ranks - level))
        solutions.append(np.append(beta, level - centre @ beta))
        predicted = held[0][held_known] @ beta + solutions[-1][-1]
        errors.append(((predicted - held[1][held_known]) ** 2).mean())
    assert fit_ridge(train, held).values == pytest.approx(solutions[int(np.argmin(errors))], abs=1e-9)


def test_ridge_equals_sklearn_to_the_bit_and_changes_its_inputs_only_where_it_may():
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((500, 4)), rng.random(500)
    given = x.copy()
    own = fit_ridge((given, y), None, (1e-2,))
    assert np.array_equal(given, x)
    known = linear_model.Ridge(alpha=1e-2 * 500, solver="cholesky").fit(x, y)
    assert np.array_equal(own.values, np.append(known.coef_, known.intercept_))
    assert np.array_equal(fit_ridge((given, y), None, (1e-2,), overwrite=True).values, own.values)
    assert not np.array_equal(given, x)


@pytest.mark.parametrize("overwrite", [False, True])
def test_rows_added_in_blocks_give_the_same_coefficients(monkeypatch, overwrite):
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((500, 4)), rng.random(500)
    y[::7] = np.nan
    for ranks in (y, np.nan_to_num(y)):
        monkeypatch.setattr(module, "BLOCK_ROWS", 500)
        whole = fit_ridge((x, ranks), (x[:90], ranks[:90]))
        monkeypatch.setattr(module, "BLOCK_ROWS", 73)
        parts = fit_ridge((x.copy(), ranks), (x[:90], ranks[:90]), overwrite=overwrite)
        assert parts.values == pytest.approx(whole.values, abs=1e-12)
        assert parts.penalty == whole.penalty


def stored(folder, values):
    config = ModelConfig(hidden_dims=(8,), learners=("ridge", "net"))
    net = build_model(config, statistics_of(NAMES)).eval()
    parts = (ModelPart(name="all", weight=0.25), ModelPart(name="ridge", weight=0.75))
    model_card = ModelCard(features=tuple(NAMES), model=config, zero_rank=0.5, parts=parts, slope=0.6)
    ridge = Ridge(np.array(values))
    return save_model(folder, "best_model", net, model_card, ridge=ridge), net, ridge


def test_a_stored_stack_predicts_the_same(tmp_path):
    path, net, ridge = stored(tmp_path, [0.1, -0.2, 0.3, 0.0, 0.52])
    raw = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    guarded = net.guard(torch.from_numpy(raw))
    parts = Forecaster(net.body, ridge=ridge).parts(guarded)
    expected = 0.5 + 0.6 * (0.25 * parts[0] + 0.75 * parts[1] - 0.5)
    assert load_model(path).predict(raw) == pytest.approx(expected, abs=1e-12)
    assert parts[1] == pytest.approx(guarded.double().numpy() @ ridge.values[:4] + 0.52, abs=1e-12)


def test_coefficients_of_other_features_are_rejected(tmp_path):
    path, _, _ = stored(tmp_path, [0.1, 0.5])
    with pytest.raises(CheckpointError, match="ridge"):
        load_model(path)


@pytest.mark.parametrize("settings", [{"learners": ("ridge",)}, {"learners": ("ridge", "net"), "blend": "lightgbm"}])
def test_a_stack_has_its_network_and_no_blend(settings):
    with pytest.raises(ValueError, match="net"):
        ModelConfig(**settings)
