"""Losses of single rows and their weighted mean. A row that does not count has weight 0, never a NaN target."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shares(weight: Tensor) -> Tensor:
    """Return weights [..., rows] over their sum: a batch's loss is the sum of errors times shares.

    Without any weight all shares are 0, and so is the loss.
    """
    return weight / weight.sum(-1, keepdim=True).clamp_min(1.0)


def huber(predicted: Tensor, target: Tensor, delta: float) -> Tensor:
    """Return e^2 / 2 within ``delta``, delta (|e| - delta / 2) beyond."""
    return F.huber_loss(predicted, target.expand_as(predicted), reduction="none", delta=delta)


def scaled_huber(predicted: Tensor, target: Tensor, delta: Tensor) -> Tensor:
    """Return the Huber loss over delta: e^2 / (2 delta) within ``delta`` [members], |e| - delta / 2 beyond.

    The slope is at most 1 at every delta, so neither the learning rate nor the clip threshold drifts with it.
    """
    error, delta = (predicted - target).abs(), delta.unsqueeze(-1)
    return torch.where(error <= delta, error.square() / (2 * delta), error - delta / 2)


def pinball(predicted: Tensor, target: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Return the mean over the levels of max(tau u, (tau - 1) u), u = target - predicted [..., levels]."""
    tau = predicted.new_tensor(levels)
    below = target.unsqueeze(-1) - predicted
    return torch.maximum(tau * below, (tau - 1) * below).mean(-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log of the probability that logits [members, rows, classes] give each row's class number."""
    logarithms = torch.log_softmax(logits, dim=-1)
    chosen = target.long().expand(logits.shape[:-1]).unsqueeze(-1)
    return -logarithms.gather(-1, chosen).squeeze(-1)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of logits [members, rows] and probabilities; a target of 0.5 is a tie."""
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")


def mask_targets(target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give rows whose target or weight is not finite the weight 0 and a harmless target."""
    finite = torch.isfinite(target) & torch.isfinite(weight)
    return torch.where(finite, target, 0.5), torch.where(finite, weight, 0.0)
