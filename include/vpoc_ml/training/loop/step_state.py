"""What passes from step to step besides weights and moments: one column per member, rows named here.

All of it is on the device in float64, is part of every snapshot and checkpoint, and changes with finite steps
only. The loss scale is the exception: it must decrease when a step overflows.

``Members`` says which member of an ensemble each parameter belongs to. Members share a batch and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

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


class Members:
    """Reductions over, and spreading to, the flat parameters [P] of each of ``count`` members.

    ``owner`` [P] is the member of each parameter. A plain network is one member, and costs nothing extra.
    """

    def __init__(self, owner: Tensor) -> None:
        self.owner = owner
        self.count = int(owner.max()) + 1
        lengths = torch.bincount(owner, minlength=self.count)
        self.positions = owner.new_zeros(self.count, int(lengths.max()))
        self.filled = torch.zeros_like(self.positions, dtype=torch.bool)
        for member in range(self.count):
            mine = (owner == member).nonzero().squeeze(-1)
            self.positions[member, : len(mine)] = mine
            self.filled[member, : len(mine)] = True

    @classmethod
    def of(cls, net: nn.Module) -> Members:
        """Return the members of a network: what its ``owners()`` says of each parameter tensor, one tensor each.

        Without that method each parameter's first dimension counts the ``members`` of the network, 1 by default.
        """
        parameters = list(net.parameters())
        count = int(getattr(net, "members", 1))
        owners: Callable[[], list[Tensor]] | None = getattr(net, "owners", None)
        if owners is not None:
            parts = [torch.as_tensor(owner).expand(p.shape) for owner, p in zip(owners(), parameters, strict=True)]
        else:
            parts = [
                torch.arange(count).repeat_interleave(p.numel() // count) if count > 1 else torch.zeros(p.numel())
                for p in parameters
            ]
        return cls(torch.cat([part.reshape(-1).long() for part in parts]).to(parameters[0].device))

    def norm(self, flat: Tensor) -> Tensor:
        """Return the norm of each member's part of ``flat`` [P], [members]. A member's NaN stays its own."""
        if self.count == 1:
            norm: Tensor = torch.linalg.vector_norm(flat, dim=0, keepdim=True)
            return norm
        return torch.where(self.filled, flat.square()[self.positions], 0.0).sum(1).sqrt()

    def all(self, flags: Tensor) -> Tensor:
        """Return whether all of each member's ``flags`` [P] are true, shape [members]."""
        return (flags[self.positions] | ~self.filled).all(1)

    def spread(self, values: Tensor) -> Tensor:
        """Return each parameter's member's value, [P]; of a single member the value itself, [1]."""
        return values if self.count == 1 else values[self.owner]
