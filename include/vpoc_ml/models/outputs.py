"""Last layers without parameters: they turn a network's raw numbers into the outputs of a target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vpoc_ml.dataset.targets import Target
from vpoc_ml.dataset.targets.base import MIDDLE

LEAST_GAP = 1e-3


class Shifted(nn.Module):
    """Raw numbers [rows, outputs] plus ``start``, unbounded. A network with a zero head predicts ``start``.

    ``start`` is the best constant prediction of the target: 0.5 for a rank target. It is computed from the target and
    is not part of the weights file.
    """

    start: Tensor

    def __init__(self, start: Sequence[float] = (MIDDLE,)) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(start), persistent=False)

    @property
    def size(self) -> int:
        """Number of raw numbers and of outputs per row."""
        return len(self.start)

    def forward(self, raw: Tensor) -> Tensor:
        """Return [rows] for one output, [rows, outputs] for several."""
        return torch.add(raw, self.start).squeeze(-1)


class Rising(Shifted):
    """Outputs that never cross: the first is unbounded, each following one is higher by a softplus.

    The unit of the steps is the mean distance between the starting values, so steps and level learn at the same rate.
    Equal starting values, which many equal returns produce, are separated by 0.001 of that distance.
    """

    step: Tensor
    offset: Tensor

    def __init__(self, start: Sequence[float]) -> None:
        super().__init__(start)
        gaps = self.start.double().diff()
        step = gaps.mean().clamp_min(1e-6)
        wanted = (gaps / step).clamp_min(LEAST_GAP)
        self.register_buffer("step", step.float(), persistent=False)
        # inverse of the softplus, so that raw zeros give the starting values
        self.register_buffer("offset", wanted.expm1().log().float(), persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        """Return outputs [rows, outputs] that rise along the last axis."""
        wide = raw.float()
        lowest = wide[..., :1] + self.start[:1]
        steps = self.step * F.softplus(wide[..., 1:] + self.offset)
        return torch.cat((lowest, lowest + steps.cumsum(-1)), dim=-1)


def output_for(target: Target | None) -> Shifted:
    """Return the last layer for a target; None is the rank."""
    if target is None:
        return Shifted()
    return Rising(target.start) if target.loss == "pinball" else Shifted(target.start)
