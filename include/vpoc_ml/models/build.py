"""Build a network from its configuration and the feature statistics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import ModelConfig
from vpoc_ml.dataset.targets import Target, target_from_json
from vpoc_ml.dataset.targets.base import MIDDLE
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.attention import FeatureAttention
from vpoc_ml.models.encoding import Encoded, PiecewiseLinear
from vpoc_ml.models.ensemble import Ensemble, Group, group_columns, seeded
from vpoc_ml.models.guard import Guard, GuardedNet
from vpoc_ml.models.linear_path import LinearPath
from vpoc_ml.models.mlp import BatchNormMLP, PlainMLP, ReferenceMLP, ReferenceOutputs
from vpoc_ml.models.outputs import output_for
from vpoc_ml.models.residual import ResidualNet


def build_model(config: ModelConfig, statistics: NetworkInputs) -> GuardedNet:
    """Return the network or ensemble with its guard. The weights come from torch's global random generator.

    Args:
        config: kind, widths, dropout, bound of the guard, encoding, members, groups.
        statistics: features with the guard's median and scale; target, edges of the encoding, and groups.

    Raises:
        InvalidValueError: an encoding without edges; a group without features; a linear path beside another target
            than the rank.
    """
    if config.linear_path == "ridge" and statistics.target is not None:
        raise InvalidValueError("model.linear_path", "ridge", "none, unless dataset.target is rank")
    guard = Guard(statistics.median, statistics.scale, config.guard_clip)
    edges = guarded_edges(config, statistics, guard)
    groups = group_columns(config, statistics)
    build = partial(_network, config, stored_target(statistics), edges)
    if config.members == 1 and not config.groups:
        return GuardedNet(guard, build(*groups.values()))
    made = {name: Group(seeded(partial(build, columns), config.members), columns) for name, columns in groups.items()}
    return GuardedNet(guard, Ensemble(made))


def _network(config: ModelConfig, target: Target | None, edges: Tensor | None, columns: Sequence[int]) -> nn.Module:
    """Return one network on ``columns`` of the guarded features."""
    if edges is None:
        net = _plain_network(config, target, len(columns), 1)
    else:
        encoding = PiecewiseLinear(edges[list(columns)])
        net = Encoded(encoding, _plain_network(config, target, len(columns), encoding.values))
    return LinearPath(len(columns), net) if config.linear_path == "ridge" else net


def _plain_network(config: ModelConfig, target: Target | None, features: int, values: int) -> nn.Module:
    inputs, widths, dropout, output = features * values, config.hidden_dims, config.dropout, output_for(target)
    if config.kind == "residual":
        return ResidualNet(inputs, widths, dropout, output)
    if config.kind == "mlp":
        return PlainMLP(inputs, widths, dropout, output)
    if config.kind == "mlp_batchnorm":
        return BatchNormMLP(inputs, widths, dropout, output)
    if config.kind == "attention":
        return FeatureAttention(features, values, widths, dropout, output)
    if target is None or target.loss == "huber":
        return ReferenceMLP(inputs, widths, dropout)
    return ReferenceOutputs(inputs, widths, dropout, output)


def guarded_edges(config: ModelConfig, statistics: NetworkInputs, guard: Guard) -> Tensor | None:
    """Return the bin edges [features, bins + 1] after the guard, float32; None without an encoding.

    Raises:
        InvalidValueError: the training set has no edges or another number of bins.
    """
    if config.encoding.kind == "none":
        return None
    stored = torch.tensor(statistics.edges or [], dtype=torch.float64)
    wanted = (len(statistics.features), config.encoding.bins + 1)
    if tuple(stored.shape) != wanted:
        expected = (
            f"one whose {config.encoding.bins} bins are in feature_statistics.json: build the training set with it"
        )
        raise InvalidValueError("model.encoding", str(config.encoding), expected)
    edges: Tensor = guard(stored.T).T
    return edges


def stored_target(statistics: NetworkInputs) -> Target | None:
    """Return the fitted target of the statistics; None is the rank target.

    Raises:
        InvalidValueError: the kind is unknown.
    """
    return None if statistics.target is None else target_from_json(statistics.target)


def starting_outputs(statistics: NetworkInputs) -> tuple[float, ...]:
    """Return the outputs of the best constant prediction of the training targets."""
    target = stored_target(statistics)
    return (MIDDLE,) if target is None else target.start


def count_parameters(net: nn.Module) -> int:
    """Return the number of trained values of all members. The buffers of the guard do not count."""
    return sum(parameter.numel() for parameter in net.parameters())
