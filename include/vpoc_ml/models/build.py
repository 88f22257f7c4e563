"""From configuration and feature statistics to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from vpoc_ml.config import ModelConfig
from vpoc_ml.dataset.targets import Target, target_from_json
from vpoc_ml.dataset.targets.base import MIDDLE
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.guard import Guard, GuardedNet
from vpoc_ml.models.reference_mlp import ReferenceMLP
from vpoc_ml.models.residual import ResidualNet


def build_model(config: ModelConfig, statistics: Mapping[str, Any]) -> GuardedNet:
    """Return the network with its guard, with weights from torch's global generator.

    Args:
        config: kind, widths, dropout, bound of the guard.
        statistics: ``features``, ``median``, ``scale`` and, if there, ``target`` of ``feature_statistics.json``.

    Raises:
        InvalidValueError: no width, or one below 1; a network that cannot learn this target.
    """
    if not config.hidden_dims or min(config.hidden_dims) < 1:
        raise InvalidValueError("model.hidden_dims", config.hidden_dims, "one or more widths of at least 1")
    guard = Guard(statistics["median"], statistics["scale"], config.guard_clip)
    inputs, target = len(statistics["features"]), stored_target(statistics)
    if config.kind == "residual":
        return GuardedNet(guard, ResidualNet(inputs, config.hidden_dims, config.dropout, start_of(statistics)))
    if target is not None and target.loss != "huber":
        expected = f"residual with dataset.target={target.kind}: the published net ends in a sigmoid"
        raise InvalidValueError("model.kind", config.kind, expected)
    return GuardedNet(guard, ReferenceMLP(inputs, config.hidden_dims, config.dropout))


def stored_target(statistics: Mapping[str, Any]) -> Target | None:
    """Return the target that ``feature_statistics.json`` or a model's file names; None is the rank.

    Raises:
        InvalidValueError: a kind this version does not know.
    """
    return target_from_json(statistics["target"]) if "target" in statistics else None


def start_of(statistics: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the outputs of the best constant prediction of the training targets."""
    target = stored_target(statistics)
    return (MIDDLE,) if target is None else target.start


def count_parameters(net: nn.Module) -> int:
    """Return the number of trained values; the guard's buffers are none."""
    return sum(parameter.numel() for parameter in net.parameters())
