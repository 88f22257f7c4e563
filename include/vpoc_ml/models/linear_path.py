"""A linear function of the guarded features beside a network. It starts at ridge, so the network learns the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpoc_ml.dataset.targets.base import MIDDLE
from vpoc_ml.models.ensemble import Ensemble, Group
from vpoc_ml.models.mlp import zero_linear
from vpoc_ml.models.ridge import Floats, Inputs, fit_ridge


class LinearPath(nn.Module):
    """net(x) + path(x). ``net`` starts as a constant and ``path`` at zero, until ``start_at_ridge`` sets it."""

    def __init__(self, features: int, net: nn.Module) -> None:
        super().__init__()
        self.path = zero_linear(features, 1)
        self.net = net

    def forward(self, guarded: Tensor) -> Tensor:
        """Return the predicted rank [rows] for guarded features [rows, features]."""
        ranks: Tensor = self.net(guarded) + self.path(guarded).squeeze(-1)
        return ranks


def start_at_ridge(body: nn.Module, train: tuple[Inputs, Floats], validation: tuple[Inputs, Floats]) -> None:
    """Set every linear path of ``body`` so that the untrained networks predict what ridge does.

    Args:
        body: untrained; without a linear path nothing happens.
        train: guarded features [rows, features] and rank targets [rows], NaN where a row does not count.
        validation: the same of the validation rows; they choose the penalty.
    """
    every = list(range(train[0].shape[1]))
    nets: list[tuple[nn.Module, list[int]]] = [(body, every)]
    if isinstance(body, Ensemble):
        nets = [(group.net, group.columns.tolist()) for group in body.groups if isinstance(group, Group)]
    for net, columns in nets:
        if isinstance(net, LinearPath):
            ridge = fit_ridge((train[0][:, columns], train[1]), (validation[0][:, columns], validation[1]))
            with torch.no_grad():
                net.path.weight.copy_(torch.from_numpy(ridge.values[:-1]).expand_as(net.path.weight))
                net.path.bias.fill_(float(ridge.values[-1]) - MIDDLE)
