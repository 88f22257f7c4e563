"""From configuration and feature statistics to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.guard import Guard, GuardedNet
from vpoc_ml.models.reference_mlp import ReferenceMLP
from vpoc_ml.models.residual import ResidualNet


def build_model(config: ModelConfig, statistics: Mapping[str, Any]) -> GuardedNet:
    """Return the network with its guard, with weights from torch's global generator.

    Args:
        config: kind, widths, dropout, bound of the guard.
        statistics: ``features``, ``median`` and ``scale`` of ``feature_statistics.json``.

    Raises:
        InvalidValueError: no width, or one below 1.
    """
    if not config.hidden_dims or min(config.hidden_dims) < 1:
        raise InvalidValueError("model.hidden_dims", config.hidden_dims, "one or more widths of at least 1")
    guard = Guard(statistics["median"], statistics["scale"], config.guard_clip)
    body = ReferenceMLP if config.kind == "reference_mlp" else ResidualNet
    return GuardedNet(guard, body(len(statistics["features"]), config.hidden_dims, config.dropout))


def count_parameters(net: nn.Module) -> int:
    """Return the number of trained values; the guard's buffers are none."""
    return sum(parameter.numel() for parameter in net.parameters())
