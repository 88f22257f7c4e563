"""Ensembles: each member is the network it would be alone; groups see their own features."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from vpoc_ml.config import ModelConfig, TrainingConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.registry import ALL_FEATURES, FEATURE_NAMES, REGISTRY
from vpoc_ml.models.build import build_model
from vpoc_ml.models.calibrated import set_reference
from vpoc_ml.models.ensemble import EVERY, GROUP_OF, group_columns
from vpoc_ml.training.engines.eager import THETA, Engine
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import StepSchedule

from .conftest import statistics_of

KINDS = get_args(ModelConfig.model_fields["kind"].annotation)
ROWS = 256
NAMES = ["mom_60m", "mom_15m", "vwap", "profile_cdf", "rv_30", "vrp", "tod_sin"]
GROUPS = {"price": [0, 1, 6], "volume": [2, 3, 6], "volatility": [4, 5, 6]}


def trained(net, objective=None, columns=None, steps=6):
    """Weights after a few steps on rows that are the same for all."""
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(steps * ROWS, len(NAMES), generator=generator)
    target = torch.rand(steps * ROWS, generator=generator)
    body = net.body.train()
    set_reference(body, inputs[:, columns] if columns else inputs)
    engine = Engine(body, TrainingConfig(), objective or Objective())
    chosen = inputs[:, columns] if columns else inputs
    engine.steps(
        (chosen, target, torch.ones(len(target))), 0, StepSchedule(ROWS, [1e-2] * steps, [0.5] * steps, [1] * steps)
    )
    with engine.using(engine.state[THETA].clone()) as used, torch.no_grad():
        return used(chosen[:50]), engine


@pytest.mark.parametrize("kind", KINDS)
def test_each_member_trains_as_it_would_alone(kind):
    config = ModelConfig(kind=kind, hidden_dims=(8, 8), members=3)
    torch.manual_seed(20)
    together, engine = trained(build_model(config, statistics_of(NAMES)))
    assert engine.members.count == 3
    for member in range(3):
        torch.manual_seed(20 + member)
        alone, _ = trained(build_model(config.model_copy(update={"members": 1}), statistics_of(NAMES)))
        torch.testing.assert_close(together[member], alone, atol=2e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 100 * 2e-5


def test_each_group_trains_as_a_net_of_its_features_alone():
    config = ModelConfig(hidden_dims=(8,), members=2, groups=("price", "volume", "volatility"))
    torch.manual_seed(20)
    together, engine = trained(build_model(config, statistics_of(NAMES)))
    assert together.shape == (6, 50)
    single = ModelConfig(hidden_dims=(8,))
    for place, columns in enumerate(GROUPS.values()):
        for member in range(2):
            torch.manual_seed(20 + member)
            net = build_model(single, statistics_of([NAMES[column] for column in columns]))
            alone, other = trained(net, columns=columns)
            torch.testing.assert_close(together[2 * place + member], alone, atol=2e-5, rtol=1e-4)
            assert int((engine.members.owner == 2 * place + member).sum()) == other.state.shape[1]


def test_weight_decay_applies_to_the_matrices_of_a_single_net():
    single = ModelConfig(hidden_dims=(8,))
    body = build_model(single.model_copy(update={"members": 2, "groups": tuple(GROUPS)}), statistics_of(NAMES)).body
    decayed = sum(p.numel() for p, decays in zip(body.parameters(), body.decays(), strict=True) if decays)
    alone = [build_model(single, statistics_of(len(columns))).body for columns in GROUPS.values()]
    assert decayed == 2 * sum(p.numel() for net in alone for p in net.parameters() if p.dim() > 1)


def test_groups_of_the_registry_cover_it_and_share_the_calendar():
    columns = group_columns(ModelConfig(groups=("price", "volume", "volatility")), statistics_of(list(FEATURE_NAMES)))
    assert {column for group in columns.values() for column in group} == set(range(len(FEATURE_NAMES)))
    calendar = {at for at, name in enumerate(FEATURE_NAMES) if REGISTRY[name].family == "calendar"}
    assert set.intersection(*map(set, columns.values())) == calendar
    assert {feature.family for feature in ALL_FEATURES.values()} == set(GROUP_OF)
    assert [family for family, group in GROUP_OF.items() if group == EVERY] == ["calendar"]


def test_groups_are_those_of_the_golden_example():
    assert group_columns(ModelConfig(groups=tuple(GROUPS)), statistics_of(NAMES)) == GROUPS
    assert group_columns(ModelConfig(groups=("all",)), statistics_of(NAMES)) == {"all": list(range(7))}
    assert group_columns(ModelConfig(), statistics_of(["unknown"])) == {"all": [0]}


def test_a_stored_assignment_is_kept():
    stored = {"price": [1], "volume": [0]}
    assert (
        group_columns(
            ModelConfig(groups=("price", "volume")), statistics_of(NAMES[:2]).model_copy(update={"groups": stored})
        )
        == stored
    )


def test_groups_that_cannot_be_are_errors():
    with pytest.raises(InvalidValueError, match="groups of features"):
        build_model(ModelConfig(groups=("price", "volume")), statistics_of(["mom_60m", "tod_sin"]))
    with pytest.raises(InvalidValueError, match="outside the registry, such as mine"):
        build_model(ModelConfig(groups=("price",)), statistics_of(["mom_60m", "mine"]))


@pytest.mark.parametrize("target", ["quantiles", "multiclass", "binary"])
def test_members_keep_the_axis_of_outputs_behind_that_of_rows(target):
    net = build_model(ModelConfig(hidden_dims=(8,), members=2), statistics_of(NAMES, target)).eval()
    shape = net(torch.randn(9, len(NAMES))).shape
    assert shape == {"quantiles": (2, 9, 5), "multiclass": (2, 9, 3), "binary": (2, 9)}[target]


def test_dropout_differs_between_members():
    net = build_model(ModelConfig(kind="mlp", hidden_dims=(64,), dropout=0.5, members=2), statistics_of(NAMES)).train()
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(weight[:1].expand_as(weight))
            weight.add_(0.1)
    first, second = net(torch.randn(40, len(NAMES)))
    assert not torch.allclose(first, second)
    net.eval()
    first, second = net(torch.randn(40, len(NAMES)))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_members_of_every_kind_train_in_half_precision(kind, precision):
    config = ModelConfig(kind=kind, hidden_dims=(8,), dropout=0.1, members=2, groups=("price", "volume"))
    torch.manual_seed(1)
    body = build_model(config, statistics_of(NAMES)).body.train()
    inputs, target = torch.randn(10 * ROWS, len(NAMES)), torch.rand(10 * ROWS)
    set_reference(body, inputs)
    engine = Engine(body, TrainingConfig(precision=precision), Objective())
    engine.steps((inputs, target, torch.ones(len(target))), 0, StepSchedule(ROWS, [1e-3] * 10, [0.5] * 10, [1] * 10))
    assert [(window.accepted, window.finite) for window in engine.read_windows()] == [(10, True)] * 4
