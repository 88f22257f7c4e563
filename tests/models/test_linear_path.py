"""The linear path: the untrained network is ridge, alone and for each group, and it is stored with the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vpoc_ml.artifacts.model_card import ModelCard, ModelPart
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import load_model, save_model
from vpoc_ml.models.ensemble import Ensemble
from vpoc_ml.models.linear_path import start_at_ridge
from vpoc_ml.models.ridge import fit_ridge

from .conftest import statistics_of

NAMES = ["mom_60m", "vwap", "rv_30", "tod_sin"]


def rows(seed, count=300):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((count, 4)).astype(np.float32)
    ranks = 0.5 + 0.05 * inputs[:, 0] - 0.03 * inputs[:, 2] + rng.normal(0, 0.1, count)
    ranks[::9] = np.nan
    return inputs, ranks


@pytest.mark.parametrize(
    "settings",
    [{}, {"members": 3}, {"members": 2, "groups": ("price", "volatility")}, {"encoding": "piecewise_linear(bins=4)"}],
)
def test_the_untrained_network_is_ridge(settings, tmp_path):
    config = ModelConfig(hidden_dims=(8,), linear_path="ridge", **settings)
    net = build_model(config, statistics_of(NAMES)).eval()
    train, validation = rows(1), rows(2)
    start_at_ridge(net.body, train, validation)
    columns = list(net.body.columns.values()) if isinstance(net.body, Ensemble) else [[0, 1, 2, 3]]
    inputs = rows(3)[0]
    with torch.no_grad():
        outputs = net.body(torch.from_numpy(inputs)).reshape(len(columns), -1, len(inputs))
    for own, found in zip(columns, outputs.numpy(), strict=True):
        ridge = fit_ridge((train[0][:, own], train[1]), (validation[0][:, own], validation[1]))
        for member in found:
            assert member == pytest.approx(ridge.predict(inputs[:, own]), abs=1e-5)
    groups = net.body.columns if config.groups else None
    parts = [ModelPart(name=name, weight=0.5) for name in groups] if groups else None
    model_card = ModelCard(features=tuple(NAMES), model=config, zero_rank=0.5, groups=groups, parts=parts)
    path = save_model(tmp_path, "best_model", net, model_card)
    assert torch.equal(load_model(path).net.body(torch.from_numpy(inputs)), net.body(torch.from_numpy(inputs)))


def test_other_targets_and_networks_have_no_linear_path():
    with pytest.raises(InvalidValueError, match="linear_path"):
        build_model(ModelConfig(linear_path="ridge"), statistics_of(NAMES, "binary"))
    with pytest.raises(ValueError, match="residual"):
        ModelConfig(kind="mlp", linear_path="ridge")
