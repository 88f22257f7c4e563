"""Piecewise-linear encoding of each feature (Gorishniy et al. 2022, "On Embeddings for Numerical Features")."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PiecewiseLinear(nn.Module):
    """Each value becomes ``bins`` values in [0, 1], one per bin of its feature.

    Bin k lies between edges k and k + 1. Its value is 0 below the bin, 1 above it, and linear inside. A following
    linear layer can change its slope at every edge, so a small network can fit steps. Beyond the outermost edges,
    the smallest and largest training value, the encoding is constant. A bin of zero width, where many training values
    are equal, is always 0.
    """

    low: Tensor
    slope: Tensor

    def __init__(self, edges: Tensor) -> None:
        """Take edges [features, bins + 1], ascending, in units of the guard's output."""
        super().__init__()
        width = edges.double().diff(dim=1)
        slope = torch.where(width > 0, 1 / width, 0.0)
        self.register_buffer("low", edges[:, :-1].float().clone())
        self.register_buffer("slope", slope.clamp_max(torch.finfo(torch.float32).max).float())

    @property
    def values(self) -> int:
        """Number of values per feature."""
        return int(self.low.shape[1])

    def forward(self, guarded: Tensor) -> Tensor:
        """Return [rows, features * bins], a feature's bins side by side, for guarded [rows, features]."""
        passed = (guarded.unsqueeze(-1) - self.low) * self.slope
        return passed.clamp(0.0, 1.0).flatten(-2)


class Encoded(nn.Module):
    """An encoding followed by a network."""

    def __init__(self, encoding: PiecewiseLinear, net: nn.Module) -> None:
        super().__init__()
        self.encoding = encoding
        self.net = net

    def forward(self, guarded: Tensor, **options: bool) -> Tensor:
        """Return what the network returns for encoded inputs; ``options`` are the network's."""
        outputs: Tensor = self.net(self.encoding(guarded), **options)
        return outputs
