"""Losses by hand, their constants and baselines, and which loss fits which target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vpoc_ml.config import DatasetConfig, TrainingConfig
from vpoc_ml.dataset.targets import fit_target
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.training.loop import objective
from vpoc_ml.training.loop.objective import Objective

RETURNS = np.random.default_rng(3).standard_t(3, size=2_000) * 1e-4


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_huber_and_its_scaled_form_by_hand():
    predicted, target = values(0.05, 0.5)[None], values(0.0, 0.0)
    assert objective.huber(predicted, target, 0.1).tolist()[0] == pytest.approx([0.00125, 0.1 * 0.45])
    assert objective.scaled_huber(predicted, target, values(0.1)).tolist()[0] == pytest.approx([0.0125, 0.45])


@pytest.mark.parametrize("delta", [0.01, 0.1, 1.0])
def test_slope_of_the_scaled_huber_is_at_most_one_at_every_delta(delta):
    predicted = torch.linspace(-3, 3, 101, dtype=torch.float64, requires_grad=True)
    objective.scaled_huber(predicted[None], torch.zeros(101, dtype=torch.float64), values(delta)).sum().backward()
    assert predicted.grad.abs().max() == pytest.approx(1.0)


def test_pinball_by_hand_and_its_minimum_is_the_quantile():
    predicted = torch.tensor([[[0.0, 0.0]]], dtype=torch.float64)
    each = objective.pinball(predicted, values(1.0), (0.1, 0.9))
    assert each.item() == pytest.approx((0.1 * 1 + 0.9 * 1) / 2)
    draws = torch.tensor(RETURNS) * 1e4
    grid = torch.linspace(-3, 3, 601, dtype=torch.float64)
    losses = [float(objective.pinball(q.expand(1, len(draws), 1), draws, (0.25,)).mean()) for q in grid]
    assert float(grid[int(np.argmin(losses))]) == pytest.approx(float(draws.quantile(0.25)), abs=0.02)


def test_cross_entropies_by_hand():
    logits = torch.tensor([[[0.0, math.log(3.0)]]], dtype=torch.float64)
    assert objective.cross_entropy(logits, values(1.0)).item() == pytest.approx(-math.log(0.75))
    tie = objective.binary_cross_entropy(values(math.log(3.0))[None], values(0.5))
    assert tie.item() == pytest.approx(-0.5 * math.log(0.75) - 0.5 * math.log(0.25))


@pytest.mark.parametrize("kind", ["rank", "rank_gauss", "return", "vol_scaled", "binary", "multiclass", "quantiles"])
def test_the_start_of_a_target_is_its_best_constant(kind):
    volatility = np.full_like(RETURNS, 1e-4)
    target = fit_target(kind, RETURNS, volatility, DatasetConfig())
    config = TrainingConfig(loss="mse") if target.loss == "huber" else TrainingConfig()
    objective = Objective.of(config, target)
    wanted = torch.tensor(target.apply(RETURNS, volatility))
    ones = torch.ones_like(wanted)
    baseline = objective.constant(wanted, ones)
    for output in range(len(objective.start)):
        for by in (-0.05, 0.05):
            start = list(objective.start)
            start[output] += by
            moved = Objective(objective.kind, objective.delta, tuple(start), objective.levels)
            assert moved.constant(wanted, ones) > baseline


def test_the_delta_never_enters_what_validation_reports():
    fixed, adaptive = Objective("huber", 0.1), Objective("adaptive_huber", 0.1)
    predicted, target, weight = torch.rand(1, 50), torch.rand(50), torch.ones(50)
    assert torch.equal(fixed.mean_loss(predicted, target, weight), adaptive.mean_loss(predicted, target, weight))


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        ("rank", "auto", "huber"),
        ("rank", "adaptive_huber", "adaptive_huber"),
        ("binary", "cross_entropy", "bce"),
        ("multiclass", "auto", "cross_entropy"),
        ("quantiles", "pinball", "pinball"),
        ("rank", "pinball", None),
        ("quantiles", "mse", None),
        ("binary", "huber", None),
    ],
)
def test_loss_has_to_fit_the_target(kind, name, found):
    target = fit_target(kind, RETURNS)
    if found is None:
        with pytest.raises(InvalidValueError, match=r"training\.loss"):
            Objective.of(TrainingConfig(loss=name), target)
    else:
        assert Objective.of(TrainingConfig(loss=name), target).kind == found
