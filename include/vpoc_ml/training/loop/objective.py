"""What training minimises: one loss per member of an ensemble, and the fixed loss that validation reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vpoc_ml.config import TrainingConfig
from vpoc_ml.dataset.targets import RankTarget, Target
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.training.loop import loss as losses

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
            return losses.scaled_huber(predictions, target, delta)
        if self.kind in ("huber", "adaptive_huber"):
            return losses.huber(predictions, target, self.delta)
        if self.kind == "mse":
            return (predictions - target).square()
        if self.kind == "pinball":
            return losses.pinball(predictions, target, self.levels)
        if self.kind == "cross_entropy":
            return losses.cross_entropy(predictions, target)
        return losses.binary_cross_entropy(predictions, target)

    def mean_loss(self, predictions: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean loss per member [members] at fixed constants, in float64: what validation reports.

        The delta of ``adaptive_huber`` never enters here: losses at different deltas cannot be compared,
        and a drifting delta shows "progress" for a constant predictor.
        """
        each = self.errors(predictions.double(), target.double())
        return torch.mv(each, losses.shares(weight.double()))

    def constant(self, target: Tensor, weight: Tensor) -> float:
        """Return the loss of predicting ``start`` for every row: the baseline."""
        start = torch.tensor(self.start, dtype=torch.float64, device=target.device)
        outputs = start.expand(1, len(target), len(self.start))
        return float(self.mean_loss(outputs.squeeze(-1) if len(self.start) == 1 else outputs, target, weight)[0])

    def by_member(self, outputs: Tensor) -> Tensor:
        """Return a network's outputs as [members, rows(, outputs)] in float32 or wider."""
        wide = outputs if outputs.dtype in (torch.float32, torch.float64) else outputs.float()
        return wide if wide.dim() == (2 if len(self.start) == 1 else 3) else wide.unsqueeze(0)
