"""What training minimises: one loss per member of an ensemble, and the fixed loss that validation reports.

A loss is computed row by row and averaged with weights. A row that does not count has weight 0, never a NaN target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vpoc_ml.config import TrainingConfig
from vpoc_ml.dataset.targets import RankTarget, Target
from vpoc_ml.errors import InvalidValueError


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


Kind = Literal["huber", "adaptive_huber", "mse", "pinball", "cross_entropy", "bce"]
# What training.loss may say about a target whose own loss is the key
CHOICES: dict[str, dict[str, Kind]] = {
    "huber": {"auto": "huber", "huber": "huber", "adaptive_huber": "adaptive_huber", "mse": "mse"},
    "pinball": {"auto": "pinball", "pinball": "pinball"},
    "cross_entropy": {"auto": "cross_entropy", "cross_entropy": "cross_entropy"},
    "bce": {"auto": "bce", "cross_entropy": "bce"},
}

DEFAULT = RankTarget(np.zeros(1))  # only its loss and start are read


@dataclass(frozen=True)
class Objective:
    """A loss and its constants. Predictions are [members, rows], or [members, rows, outputs] where outputs > 1.

    Attributes:
        kind: which loss.
        delta: fixed delta of the Huber loss, and where the adaptive one starts.
        start: best constant outputs: the baseline of the loss, and where the network starts.
        levels: quantile levels of the pinball loss.
    """

    kind: Kind = "huber"
    delta: float = 0.1
    start: tuple[float, ...] = (0.5,)
    levels: tuple[float, ...] = ()

    @classmethod
    def of(cls, config: TrainingConfig, target: Target | None = None) -> Objective:
        """Return the objective for a fitted target; None is one in rank units.

        Raises:
            InvalidValueError: ``training.loss`` does not fit the target.
        """
        if target is None:
            target = DEFAULT
        own, levels = target.loss, tuple(float(level) for level in getattr(target, "levels", ()))
        if config.loss not in CHOICES[own]:
            raise InvalidValueError(
                "training.loss", config.loss, f"one of {', '.join(CHOICES[own])}: the target is trained with {own}"
            )
        return cls(CHOICES[own][config.loss], config.huber_delta, target.start, levels)

    @property
    def adaptive(self) -> bool:
        """Whether the delta follows the residuals."""
        return self.kind == "adaptive_huber"

    def errors(self, predictions: Tensor, target: Tensor, delta: Tensor | None = None) -> Tensor:
        """Return the loss of each row [members, rows].

        Args:
            predictions: [members, rows] or [members, rows, outputs], in full precision.
            target: [rows].
            delta: [members], what the adaptive delta is now; None: every loss at its fixed constants.
        """
        if self.kind == "adaptive_huber" and delta is not None:
            return scaled_huber(predictions, target, delta)
        if self.kind in ("huber", "adaptive_huber"):
            return huber(predictions, target, self.delta)
        if self.kind == "mse":
            return (predictions - target).square()
        if self.kind == "pinball":
            return pinball(predictions, target, self.levels)
        if self.kind == "cross_entropy":
            return cross_entropy(predictions, target)
        return binary_cross_entropy(predictions, target)

    def mean_loss(self, predictions: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean loss per member [members] at fixed constants, in float64: what validation reports.

        The delta of ``adaptive_huber`` never enters here: losses at different deltas cannot be compared,
        and a drifting delta shows "progress" for a constant predictor.
        """
        each = self.errors(predictions.double(), target.double())
        return torch.mv(each, shares(weight.double()))

    def constant(self, target: Tensor, weight: Tensor) -> float:
        """Return the loss of predicting ``start`` for every row: the baseline."""
        start = torch.tensor(self.start, dtype=torch.float64, device=target.device)
        outputs = start.expand(1, len(target), len(self.start))
        return float(self.mean_loss(outputs.squeeze(-1) if len(self.start) == 1 else outputs, target, weight)[0])

    def by_member(self, outputs: Tensor) -> Tensor:
        """Return a network's outputs as [members, rows(, outputs)] in float32 or wider."""
        wide = outputs if outputs.dtype in (torch.float32, torch.float64) else outputs.float()
        return wide if wide.dim() == (2 if len(self.start) == 1 else 3) else wide.unsqueeze(0)
