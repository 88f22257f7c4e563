"""Kinds of network, their last layers, the encoding: constants at the start, oracles, rows that do not mix."""

from __future__ import annotations

import copy
import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vpoc_ml.config import ModelConfig
from vpoc_ml.dataset import targets
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.build import build_model, count_parameters, stored_target
from vpoc_ml.models.calibrated import set_reference
from vpoc_ml.models.encoding import PiecewiseLinear
from vpoc_ml.models.mlp import BatchNormMLP
from vpoc_ml.models.outputs import Rising, Shifted

from .conftest import BINS, statistics_of

KINDS = get_args(ModelConfig.model_fields["kind"].annotation)
STARTING = [kind for kind in KINDS if kind != "reference_mlp"]


def config_of(kind: str, encoding: str = "none", **more) -> ModelConfig:
    encoded = "none" if encoding == "none" else f"{encoding}(bins={BINS})"
    return ModelConfig(kind=kind, hidden_dims=(16, 16), encoding=encoded, **more)


@pytest.mark.parametrize("encoding", ["none", "piecewise_linear"])
@pytest.mark.parametrize("target", targets.KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_outputs_of_every_target(kind, target, encoding):
    statistics = statistics_of(5, target)
    net = build_model(config_of(kind, encoding=encoding), statistics)
    fitted = stored_target(statistics)
    outputs = 1 if fitted is None else fitted.outputs
    predicted = net.eval()(torch.randn(7, 5) * 100)
    assert predicted.shape == ((7,) if outputs == 1 else (7, outputs))
    assert predicted.dtype == torch.float32
    assert torch.isfinite(predicted).all()


@pytest.mark.parametrize("target", targets.KINDS)
@pytest.mark.parametrize("kind", STARTING)
def test_the_untrained_net_predicts_the_best_constant(kind, target):
    statistics = statistics_of(5, target)
    predicted = build_model(config_of(kind), statistics).eval()(torch.randn(9, 5))
    fitted = stored_target(statistics)
    start = torch.tensor((0.5,) if fitted is None else fitted.start).squeeze()
    torch.testing.assert_close(predicted, start.expand_as(predicted), atol=1e-3, rtol=0)


@pytest.mark.parametrize("encoding", ["none", "piecewise_linear"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_predicted_by_itself_and_learns_from_every_feature(kind, encoding):
    torch.manual_seed(1)
    net = build_model(config_of(kind, encoding=encoding), statistics_of(5))
    stir(net)
    rows = torch.randn(30, 5, dtype=torch.float64).clamp(-1.9, 1.9)
    net.eval()
    torch.testing.assert_close(net(rows)[3:4], net(rows[3:4]))
    rows.requires_grad_()
    net(rows).sum().backward()
    assert (rows.grad.abs().sum(0) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient(kind):
    torch.manual_seed(1)
    net = build_model(config_of(kind), statistics_of(5)).train()
    stir(net)
    (net(torch.randn(64, 5)) - torch.rand(64)).square().mean().backward()
    silent = [name for name, weight in net.named_parameters() if not (weight.grad.abs() > 0).any()]
    assert silent == []


def stir(net: nn.Module) -> None:
    """Move all weights off their start: zero-started layers would hide what is behind them."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))


@given(raw=st.lists(st.floats(-1e4, 1e4, width=32), min_size=5, max_size=5))
@settings(max_examples=200, deadline=None)
def test_quantiles_never_cross(raw):
    outputs = Rising((0.1, 0.3, 0.5, 0.5, 0.9))(torch.tensor([raw]))
    assert (outputs.diff(dim=-1) >= 0).all()


def test_quantiles_golden_example():
    rising = Rising((0.2, 0.5, 1.1))
    torch.testing.assert_close(rising(torch.zeros(1, 3)), torch.tensor([[0.2, 0.5, 1.1]]))
    # raw 1 above the first start; steps 0.45 softplus(2 + ln(e^(2/3) - 1)) and 0.45 softplus(ln(e^(4/3) - 1) - 1)
    moved = rising(torch.tensor([[1.0, 2.0, -1.0]])).double().numpy()[0]
    first = 0.45 * np.log1p(np.exp(2 + np.log(np.expm1(0.3 / 0.45))))
    second = 0.45 * np.log1p(np.exp(np.log(np.expm1(0.6 / 0.45)) - 1))
    np.testing.assert_allclose(moved, [1.2, 1.2 + first, 1.2 + first + second], rtol=1e-6)


def test_one_output_has_no_axis_of_its_own():
    assert Shifted((0.5,))(torch.zeros(4, 1)).shape == (4,)
    assert Shifted((0.5, 0.1))(torch.zeros(4, 2)).shape == (4, 2)


def slow_encoding(value: float, edges: list[float]) -> list[float]:
    """Bin by bin, in words of the definition."""
    reported = []
    for low, high in itertools.pairwise(edges):
        if low == high or value <= low:
            reported.append(0.0)
        else:
            reported.append(1.0 if value >= high else (value - low) / (high - low))
    return reported


@given(
    st.lists(st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.0, 0.25, 2.0, 6.0]), min_size=3, max_size=6),
    st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=9),
)
@settings(max_examples=100, deadline=None)
def test_encoding_agrees_with_the_slow_one(edges, values):
    edges = sorted(edges)
    reported = PiecewiseLinear(torch.tensor([edges]))(torch.tensor(values).unsqueeze(1))
    expected = torch.tensor([slow_encoding(value, edges) for value in values])
    torch.testing.assert_close(reported, expected, atol=1e-6, rtol=1e-6)


def test_encoding_keeps_the_bins_of_a_feature_together():
    edges = torch.tensor([[0.0, 1.0, 2.0], [-1.0, 0.0, 4.0]])
    reported = PiecewiseLinear(edges)(torch.tensor([[1.5, 1.0]]))
    torch.testing.assert_close(reported, torch.tensor([[1.0, 0.5, 1.0, 0.25]]))


def test_edges_pass_the_guard_as_the_features_do():
    statistics = statistics_of(1).model_copy(
        update={"median": [100.0], "scale": [3.0], "edges": [[91.0, 100.0, 103.0, 160.0, 1e30]]}
    )
    net = build_model(config_of("residual", encoding="piecewise_linear"), statistics)
    reported = net.body.encoding(net.guard(torch.tensor([[100.0], [103.0], [1e30]])))
    torch.testing.assert_close(reported, torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]))


@pytest.mark.parametrize("edges", [[], [[0.0, 1.0]] * 5])
def test_a_training_set_without_these_bins_is_refused(edges):
    statistics = statistics_of(5).model_copy(update={"edges": edges})
    with pytest.raises(InvalidValueError, match="build the training set"):
        build_model(config_of("residual", encoding="piecewise_linear"), statistics)


def test_batch_norm_equals_torchs_own():
    torch.manual_seed(2)
    ours = BatchNormMLP(3, (4,), 0.0, Shifted())
    stir(ours)
    theirs = nn.BatchNorm1d(4, momentum=None)
    with torch.no_grad():
        theirs.weight.copy_(ours.norms[0].weight)
        theirs.bias.copy_(ours.norms[0].bias)
    rows, others = torch.randn(50, 3), torch.randn(20, 3)

    def forward(inputs):
        return 0.5 + ours.head(torch.relu(theirs(ours.linears[0](inputs)))).squeeze(-1)

    torch.testing.assert_close(ours(rows), forward(rows))
    set_reference(ours, rows)
    ours.eval(), theirs.eval()
    with torch.no_grad():  # torch keeps the variance with n - 1
        theirs.running_var.mul_(49 / 50)
    torch.testing.assert_close(ours(others), forward(others))


def test_training_leaves_the_moments_alone_and_leaving_it_measures_the_weights_in_use():
    torch.manual_seed(2)
    net = build_model(config_of("mlp_batchnorm", encoding="piecewise_linear", dropout=0.5), statistics_of(3))
    rows = net.guard(torch.randn(400, 3))
    before = copy.deepcopy(net.state_dict())
    net.train()(torch.randn(64, 3))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    set_reference(net.body, rows)
    net.eval()
    first = net.body.net.norms[0].moments.clone()
    hidden = net.body.net.linears[0](net.body.encoding(rows))
    torch.testing.assert_close(first, torch.stack((hidden.mean(0), hidden.var(0, correction=0))))
    with torch.no_grad():
        net.body.net.linears[0].weight.mul_(2)
    net.train().eval()
    torch.testing.assert_close(net.body.net.norms[0].moments[0], 2 * first[0])
    set_reference(net.body, None)
    kept = net.body.net.norms[0].moments.clone()
    net.train().eval()
    assert torch.equal(net.body.net.norms[0].moments, kept)


def test_attention_takes_widths_that_eight_does_not_divide():
    net = build_model(ModelConfig(kind="attention", hidden_dims=(6,)), statistics_of(3))
    assert net.body.blocks[0].attention.heads == 1
    assert count_parameters(net) > 0


def test_attention_equals_torchs_own():
    torch.manual_seed(3)
    net = build_model(ModelConfig(kind="attention", hidden_dims=(16,)), statistics_of(3))
    stir(net)
    own = net.body.blocks[0].attention
    theirs = nn.MultiheadAttention(16, own.heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(own.queries_keys_values.weight)
        theirs.in_proj_bias.copy_(own.queries_keys_values.bias)
        theirs.out_proj.weight.copy_(own.merge.weight)
        theirs.out_proj.bias.copy_(own.merge.bias)
    tokens = torch.randn(5, 4, 16)
    torch.testing.assert_close(own(tokens), theirs(tokens, tokens, tokens, need_weights=False)[0], atol=1e-5, rtol=1e-4)
