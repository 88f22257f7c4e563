"""Checks windows of steps: continue, roll back with half the learning rate, or end the training."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

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
