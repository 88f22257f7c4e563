"""What passes from step to step besides weights and moments: one column per member, rows named here.

All of it is on the device in float64, is part of every snapshot and checkpoint, and changes with finite steps
only. The loss scale is the exception: it must decrease when a step overflows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vpoc_ml.config import TrainingConfig

UPDATES, LOG_NORM, LOG_SPREAD, LOG_DELTA, SCALE, STREAK = range(6)
ROWS = 6

FIRST_SCALE, LARGEST_SCALE, DOUBLING_STEPS = 2.0**12, 2.0**16, 2000

NORM_DECAY, DEVIATIONS, LEAST_SPREAD, NORM_STEPS = 0.98, 2.5, 0.1, 50

DELTA_DECAY, DELTA_QUANTILE, DELTA_RANGE, DELTA_ROWS = 0.99, 0.9, 10.0, 8


def first_step_state(members: int, config: TrainingConfig, device: torch.device) -> Tensor:
    """Return the columns before the first step, float64 [rows, members]."""
    step_state = torch.zeros(ROWS, members, dtype=torch.float64, device=device)
    step_state[LOG_DELTA] = math.log(config.huber_delta)
    step_state[SCALE] = FIRST_SCALE if config.precision == "fp16" else 1.0
    return step_state


def clip_limit(step_state: Tensor, config: TrainingConfig) -> Tensor | float:
    """Return the largest gradient norm allowed, to all members alike or to each [members].

    Fixed: ``gradient_clip``. Adaptive: also no more than 2.5 standard deviations above the running mean of
    the logarithm of the norm, once 50 steps are known. A spread below 0.1 counts as 0.1: a steady norm is
    no reason to clip.
    """
    if config.clipping == "fixed":
        return config.gradient_clip
    spread = step_state[LOG_SPREAD].sqrt().clamp_min(LEAST_SPREAD)
    usual = torch.exp(step_state[LOG_NORM] + DEVIATIONS * spread)
    return torch.where(step_state[UPDATES] < NORM_STEPS, math.inf, usual).clamp_max(config.gradient_clip)


def norm_statistics(step_state: Tensor, norm: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Return running mean and variance of the log norm after one more; a norm above the limit counts as the limit.

    Without that cut one spike would lift the threshold for all that follow. Early on the running mean is
    the plain mean of all norms so far.
    """
    value = torch.log(torch.minimum(norm.double(), limit).clamp_min(1e-30))
    share = torch.clamp_min(1 / (step_state[UPDATES] + 1), 1 - NORM_DECAY)
    away = value - step_state[LOG_NORM]
    mean = step_state[LOG_NORM] + share * away
    return mean, (1 - share) * (step_state[LOG_SPREAD] + share * away.square())


def next_log_delta(step_state: Tensor, residuals: Tensor, weight: Tensor, fixed: float) -> Tensor:
    """Return the logarithm of the adaptive delta after one more batch, [members].

    The delta follows the 0.9 quantile of |residual| (Friedman 2001) with decay 0.99, within a factor of 10 of
    ``huber_delta``. A batch with fewer than 8 usable residuals changes nothing.

    Args:
        step_state: float64 [rows, members].
        residuals: [members, rows], detached.
        weight: [rows]; rows of weight 0 do not count.
        fixed: ``training.huber_delta``.
    """
    usable = torch.isfinite(residuals) & (weight > 0)
    known = torch.where(usable, residuals.abs(), math.nan)
    reached = torch.nanquantile(known, DELTA_QUANTILE, dim=-1).double()
    bounded = reached.clamp(fixed / DELTA_RANGE, fixed * DELTA_RANGE)
    moved = DELTA_DECAY * step_state[LOG_DELTA] + (1 - DELTA_DECAY) * bounded.log()
    return torch.where(usable.sum(-1) >= DELTA_ROWS, moved, step_state[LOG_DELTA])


def next_scale(step_state: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss scale of fp16 and its streak of finite steps, [members] each.

    Halved by a step that is not finite, doubled after 2000 that are. The floor is 1: a scaler without one
    halves until its reciprocal is infinite, and then writes NaN into the weights.
    """
    streak = torch.where(finite, step_state[STREAK] + 1, 0.0)
    doubled = torch.where(streak >= DOUBLING_STEPS, (2 * step_state[SCALE]).clamp_max(LARGEST_SCALE), step_state[SCALE])
    return torch.where(finite, doubled, (step_state[SCALE] / 2).clamp_min(1.0)), streak.remainder(DOUBLING_STEPS)
