"""Ridge beside a network: the network learns what ridge leaves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpoc_ml.dataset.targets.base import MIDDLE
from vpoc_ml.models.ensemble import Ensemble, Group
from vpoc_ml.models.ridge import Floats, Inputs, fit_ridge


class LinearPath(nn.Module):
    """net(x) + weight x + bias. ``start_at_ridge`` sets the linear part, which is not trained.

    At the learning rate of a network, steps of the linear weights are larger than a weak signal.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, net: nn.Module) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(features))
        self.register_buffer("bias", torch.zeros(()))
        self.net = net

    def forward(self, guarded: Tensor) -> Tensor:
        """Return the predicted rank [rows] for guarded features [rows, features]."""
        ranks: Tensor = self.net(guarded) + guarded @ self.weight + self.bias
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
            net.weight.copy_(torch.from_numpy(ridge.values[:-1]))
            net.bias.fill_(float(ridge.values[-1]) - MIDDLE)
