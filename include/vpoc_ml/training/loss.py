"""The loss: weighted Huber at a fixed delta."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_huber(predicted: Tensor, target: Tensor, weight: Tensor, delta: float) -> Tensor:
    """Return the weighted mean Huber loss, 0-d: e^2 / 2 within ``delta``, delta (|e| - delta / 2) beyond.

    A batch without any weight has loss 0. The delta never adapts: losses at different deltas cannot
    be compared, and a drifting delta shows "progress" for a constant predictor.
    """
    errors = F.huber_loss(predicted, target, reduction="none", delta=delta)
    return torch.dot(errors, weight) / weight.sum().clamp_min(1.0)


def mask_targets(target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give rows whose target or weight is not finite the weight 0 and a harmless target."""
    sound = torch.isfinite(target) & torch.isfinite(weight)
    return torch.where(sound, target, 0.5), torch.where(sound, weight, 0.0)
