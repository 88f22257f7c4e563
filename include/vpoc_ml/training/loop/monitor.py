"""Checks windows of steps: continue, roll back with half the learning rate, or end the training.

The state of these checks, of early stopping and of the run's progress is stored in the checkpoint.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vpoc_ml.artifacts.training_progress import WindowRecord
from vpoc_ml.errors import TooManyRollbacksError
from vpoc_ml.training.engines.eager import Window

SKIPPED_SHARE = 0.5
LOSS_FACTOR = 1.5
HISTORY = 20
LEAST_ROWS = 256
DEAD_SPREAD = 1e-5


@dataclass
class Monitor:
    """State of the checks of one member; all of it is stored in the checkpoint.

    ``history`` starts with the loss before the first step, so that a divergence in the first window
    is detected. ``rate_factor`` is the share of the learning rate that rollbacks have left.
    """

    history: list[float]
    rate_factor: float = 1.0
    rollbacks: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)

    def defect(self, window: Window, batch: int) -> str | None:
        """Return the defect of a bad window, or None. A loss over fewer than 256 rows is too noisy to be checked."""
        if not window.finite:
            return "weights are not finite"
        if window.steps - window.accepted > SKIPPED_SHARE * window.steps:
            return f"{window.steps - window.accepted} of {window.steps} steps were skipped"
        usual = statistics.median(self.history)
        if window.accepted * batch >= LEAST_ROWS and window.loss > LOSS_FACTOR * usual:
            return f"loss {window.loss:.6f} is above {LOSS_FACTOR} x the usual {usual:.6f}"
        return None

    def accept(self, window: Window) -> None:
        """Count the window's skipped steps and append its loss to the history."""
        self.skipped += window.steps - window.accepted
        if window.accepted:
            self.history = [*self.history, window.loss][-HISTORY:]

    def roll_back(self, window: Window, reason: str, step: int, limit: int) -> None:
        """Count a rollback and halve the learning rate.

        Raises:
            TooManyRollbacksError: more than ``limit`` rollbacks.
        """
        self.skipped += window.steps - window.accepted
        self.rollbacks += 1
        self.rate_factor *= 0.5
        self.reasons = [*self.reasons, f"step {step}: {reason}"][-HISTORY:]
        if self.rollbacks > limit:
            raise TooManyRollbacksError(limit, self.reasons[-1], self.rate_factor)


def is_dead(spread: float) -> bool:
    """Return whether a net has silently collapsed: its predictions do not vary.

    The loss does not show it: one number may happen to beat the constant on these rows. Nothing is non-finite and no
    rollback occurs, so it is detected separately. It is not an error: with features that carry no information a
    constant is the right answer, and the promotion rule rejects it.
    """
    return spread < DEAD_SPREAD


@dataclass
class EarlyStoppingState:
    """Best epoch of one member. Epochs count from 1; 0: the start, or no epoch was finite yet.

    ``trained_epochs`` is the training behind the best weights, 0.125 being an eighth of an epoch. ``finite`` says
    whether the loss was finite after some training.
    """

    best_epoch: int = 0
    best_loss: float | None = None
    best_dead: bool = False
    trained_epochs: float = 0.0
    finite: bool = False
    epochs_without_gain: int = 0

    def update(self, epoch: int, loss: float, dead: bool, patience: int, trained: float = 0.0) -> bool:
        """Take a validation loss of an epoch; return whether it is the best so far.

        A member whose patience has run out is finished: its epochs while others continue do not count.
        """
        if self.finished(patience):
            return False
        self.finite |= epoch > 0 and math.isfinite(loss)
        best = math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss)
        if best:
            self.best_epoch, self.best_loss, self.best_dead, self.trained_epochs = epoch, loss, dead, trained
        return best

    def close_epoch(self, epoch: int, patience: int) -> bool:
        """Count an epoch whose validations were all taken; return whether one of them was the best so far."""
        if self.finished(patience):
            return False
        best = self.best_epoch == epoch
        self.epochs_without_gain = 0 if best else self.epochs_without_gain + 1
        return best

    def take(self, epoch: int, loss: float, dead: bool, trained: float) -> bool:
        """Take the weights whatever their loss is, as long as it is finite; return whether they were taken."""
        self.finite |= epoch > 0 and math.isfinite(loss)
        if math.isfinite(loss):
            self.best_epoch, self.best_loss, self.best_dead, self.trained_epochs = epoch, loss, dead, trained
        return math.isfinite(loss)

    def finished(self, patience: int) -> bool:
        """Return whether ``patience`` epochs have passed without a better loss."""
        return self.epochs_without_gain >= patience


@dataclass
class Progress:
    """State of a run apart from its tensors; all of it is stored in the checkpoint."""

    step: int = 0
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    seconds: float = 0.0
    early_stopping: list[EarlyStoppingState] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Progress:
        """Return what ``to_json`` stored."""
        early_stopping = [EarlyStoppingState(**stopping) for stopping in stored["early_stopping"]]
        return cls(**{**stored, "early_stopping": early_stopping})


def window_record(
    windows: Sequence[Window], monitors: Sequence[Monitor], *, step: int, epoch: int, steps_total: int, rate: float
) -> WindowRecord:
    """Return a window over all members: means of losses and shares, extremes of norms, sums of events.

    ``rate`` is that of the schedule. The record holds it after the rollbacks of the member with most of them.
    """
    taken = [window for window in windows if window.accepted]
    return WindowRecord(
        step=step,
        epoch=epoch,
        steps_total=steps_total,
        loss=_finite(_mean([window.loss for window in taken])) if taken else None,
        grad_norm_max=_finite(max(window.norm_max for window in windows)),
        grad_norm_mean=_finite(_mean([window.norm_mean for window in windows])),
        lr=rate * min(monitor.rate_factor for monitor in monitors),
        skipped=sum(window.steps - window.accepted for window in windows),
        clip_share=_mean([window.clip_share for window in windows]),
        clip_limit=_finite(min(window.clip_limit for window in windows)),
        update_ratio_max=_finite(max(window.update_ratio_max for window in windows)),
        rollbacks=sum(monitor.rollbacks for monitor in monitors),
        loss_scale=min(window.loss_scale for window in windows),
        delta=_mean([window.delta for window in windows]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _finite(value: float) -> float | None:
    """Return the value, None if it is not finite, which JSON cannot represent."""
    return value if math.isfinite(value) else None
