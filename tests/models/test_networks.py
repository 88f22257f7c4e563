"""Networks and guard: parameter counts, constant start, bounded inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import ModelConfig, preset
from vpoc_ml.models.build import build_model, count_parameters
from vpoc_ml.models.guard import Guard


def statistics(features: int) -> NetworkInputs:
    names = [f"f{number}" for number in range(features)]
    return NetworkInputs(features=names, median=[0.0] * features, scale=[1.0] * features)


@pytest.mark.parametrize(
    ("config", "features", "parameters"),
    [
        (preset("top5").model, 5, 299),  # the published count
        (ModelConfig(hidden_dims=(8,)), 5, 369),
        (ModelConfig(hidden_dims=(16,)), 5, 1_249),
        (preset("nightly").model, 54, 10_369),
        (preset("ambitious").model, 10, 180_117),  # the published count
        (ModelConfig(kind="mlp", hidden_dims=(16, 8)), 5, 241),
        (ModelConfig(kind="mlp_batchnorm", hidden_dims=(16, 8)), 5, 265),
        (ModelConfig(kind="attention", hidden_dims=(16,)), 5, 2_449),
        (ModelConfig(hidden_dims=(16,), members=4), 5, 4 * 1_249),
    ],
)
def test_parameter_counts(config, features, parameters):
    net = build_model(config, statistics(features))
    assert count_parameters(net) == parameters
    assert list(net.guard.parameters()) == [], "the guard holds buffers only"


def test_reference_mlp_has_the_published_layers():
    names = [type(layer).__name__ for layer in build_model(preset("top5").model, statistics(5)).body.layers]
    block = ["Linear", "LayerNorm", "ReLU", "Dropout"]
    assert names == ["LayerNorm", *block, *block, "Linear"]


def test_residual_net_starts_as_the_constant_one_half():
    net = build_model(ModelConfig(hidden_dims=(32, 32, 32)), statistics(7))
    assert (net(torch.randn(50, 7) * 1e6) == 0.5).all()


def test_reference_mlp_predicts_inside_zero_and_one():
    predicted = build_model(preset("top5").model, statistics(5)).eval()(torch.randn(50, 5) * 1e6)
    assert ((predicted > 0) & (predicted < 1)).all()


def test_guard_golden_example():
    guard = Guard([5000.0, 0.0], [2.0, 1e-9], 6.0)
    raw = torch.tensor([[5002.0, 1e30], [math.nan, -math.inf], [4998.0, 0.0]], dtype=torch.float64)
    out = guard(raw)
    assert out.dtype == torch.float32
    expected = [[math.asinh(1), 6.0], [0.0, 0.0], [-math.asinh(1), 0.0]]
    torch.testing.assert_close(out, torch.tensor(expected))


@settings(max_examples=100, deadline=None)
@given(
    value=st.floats(width=64),
    median=st.floats(-1e30, 1e30),
    scale=st.floats(min_value=5e-324, max_value=1e300),
    clip=st.floats(0.5, 50),
)
def test_guard_is_finite_and_bounded_for_any_input(value, median, scale, clip):
    out = Guard([median], [scale], clip)(torch.tensor([[value]], dtype=torch.float64)).item()
    assert math.isfinite(out)
    assert abs(out) <= np.float32(clip)


def test_guard_keeps_the_order_of_a_column():
    column = torch.linspace(-50, 50, 200).reshape(-1, 1)
    assert (Guard([1.0], [3.0], 6.0)(column).diff(dim=0) > 0).all()
