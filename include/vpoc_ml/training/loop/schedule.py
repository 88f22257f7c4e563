"""Learning rate, averaging and dropout seeds as functions of the step: nothing to store, nothing to lose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vpoc_ml.config import TrainingConfig

LARGEST_WARMUP_SHARE = 0.2


@dataclass(frozen=True)
class LearningRateSchedule:
    """Linear warm-up, then cosine to zero or constant. ``total`` counts all steps of all epochs."""

    peak: float
    warmup: int
    total: int
    cosine: bool
    ema_decay: float

    @classmethod
    def of(cls, config: TrainingConfig, total_steps: int) -> LearningRateSchedule:
        """Return the schedule of a run; the warm-up is cut to a fifth of a short run."""
        warmup = min(config.warmup_steps, int(total_steps * LARGEST_WARMUP_SHARE))
        return cls(config.learning_rate, warmup, total_steps, config.schedule == "cosine", config.ema_decay)

    def rate(self, step: int) -> float:
        """Return the learning rate of the 0-based ``step``."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if not self.cosine:
            return self.peak
        progress = (step - self.warmup) / max(1, self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * progress))

    def decay(self, step: int) -> float:
        """Return the decay of the averaged weights: small at first, so that a short run forgets its start."""
        return min(self.ema_decay, (1 + step) / (10 + step))


class StepSchedule(NamedTuple):
    """What a run of steps needs from the host: rows of a batch; rate, decay and dropout seed of each step."""

    batch: int
    rates: list[float]
    decays: list[float]
    seeds: list[int]

    @classmethod
    def of(cls, schedule: LearningRateSchedule, seed: int, first: int, count: int, batch: int) -> StepSchedule:
        """Return the plan of the 0-based steps ``first`` to ``first + count - 1``."""
        steps = range(first, first + count)
        rates, decays = [schedule.rate(step) for step in steps], [schedule.decay(step) for step in steps]
        return cls(batch, rates, decays, step_seeds(seed, first, count))

    def batches(self, rows: tuple[Tensor, ...], start: int) -> list[Tensor]:
        """Return the columns of ``rows`` as [steps, batch, ...], the first step's batch being number ``start``."""
        count = len(self.rates)
        part = slice(start * self.batch, (start + count) * self.batch)
        return [column[part].reshape(count, self.batch, *column.shape[1:]) for column in rows]

    def part(self, start: int, stop: int | None = None) -> StepSchedule:
        """Return the plan of the steps from ``start`` up to ``stop``, counted within this plan."""
        which = slice(start, stop)
        return StepSchedule(self.batch, self.rates[which], self.decays[which], self.seeds[which])


def step_seeds(seed: int, first: int, count: int) -> list[int]:
    """Return the 32-bit dropout seeds of ``count`` steps (splitmix64): a resumed step draws what it would have."""
    steps = np.arange(first, first + count, dtype=np.uint64)
    mixed = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64) + steps * np.uint64(0xD1B54A32D192ED03)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    seeds: list[int] = ((mixed ^ (mixed >> np.uint64(31))) & np.uint64(0xFFFFFFFF)).tolist()
    return seeds
