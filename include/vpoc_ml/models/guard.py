"""The input guard: it imputes, scales and clips the inputs of a network.

Losses of 1e28 and permanent NaN come from inputs (a ratio with a tiny denominator, one bad row), not from gradients.
The guard is part of every model and of its file, so training and scoring use the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Guard(nn.Module):
    """Non-finite -> median; (x - median) / scale; asinh; clip: ``dataset.robust_scaling`` in PyTorch.

    It has buffers and no parameters. ``forward`` takes [rows, features] of any float dtype, computes in float64
    (float32 overflows on 1e30 / 1e-9) and returns float32 in [-clip, clip].
    """

    median: Tensor
    scale: Tensor
    clip: Tensor

    def __init__(self, median: Sequence[float], scale: Sequence[float], clip: float) -> None:
        super().__init__()
        self.register_buffer("median", torch.tensor(median, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("clip", torch.tensor(clip, dtype=torch.float64))

    def forward(self, raw: Tensor) -> Tensor:
        wide = raw.double()
        finite = torch.where(torch.isfinite(wide), wide, self.median)
        guarded = torch.asinh((finite - self.median) / self.scale)
        return torch.clamp(guarded, -self.clip, self.clip).float()


class GuardedNet(nn.Module):
    """Guard, then network: raw features [rows, features] -> predicted rank [rows], float32."""

    def __init__(self, guard: Guard, body: nn.Module) -> None:
        super().__init__()
        self.guard = guard
        self.body = body

    def forward(self, raw: Tensor) -> Tensor:
        ranks: Tensor = self.body(self.guard(raw))
        return ranks
