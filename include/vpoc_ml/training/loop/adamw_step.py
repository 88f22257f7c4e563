"""The arithmetic of one update, in plain torch: clip, Adam, average. Eager and compiled steps share it.

``step_state`` passes from step to step besides weights and moments: one column per member, rows named here. All of it
is on the device in float64, is part of every snapshot and checkpoint, and changes with finite steps only. The loss
scale is the exception: it must decrease when a step overflows.

``Members`` says which member of an ensemble each parameter belongs to. Members share a batch and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

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


THETA, MEAN, SQUARE, AVERAGE = range(4)  # rows of the state
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NOISE_POWER = 0.55
LOSS, NORM, EXCESS, MOVE, LENGTH = range(5)
RECORD = 5


class Batch(NamedTuple):
    """What the network made of a step's rows; all detached. ``gradient`` [P] is that of the scaled loss.

    ``losses`` [members] are reported, so an adaptive loss enters at its fixed delta; ``residuals``
    [members, rows] and ``share`` [rows], each row's share of the weight, are used for an adaptive delta only.
    """

    gradient: Tensor
    losses: Tensor
    residuals: Tensor
    share: Tensor


class StepRates(NamedTuple):
    """Learning rate of each member [members], and the decay of the averaged weights."""

    rate: Tensor
    decay: Tensor | float


class Constants(NamedTuple):
    """Tensors that every step reads and none changes.

    Attributes:
        decayed: float32 [P], 1 where weight decay applies.
        betas: float64 [2, 1], Adam's.
        tick: float64 [6, 1], what one finite step adds to the step state: a count.
        beta2, epsilon, infinity: float32 0-d. A plain number would be made a tensor and converted in every
            operation, which takes longer than the operation.
    """

    decayed: Tensor
    betas: Tensor
    tick: Tensor
    beta2: Tensor
    epsilon: Tensor
    infinity: Tensor

    @classmethod
    def of(cls, decayed: Tensor) -> Constants:
        """Return the constants on the device of ``decayed``."""
        betas = torch.tensor([[BETA1], [BETA2]], dtype=torch.float64, device=decayed.device)
        tick = torch.zeros(ROWS, 1, dtype=torch.float64, device=decayed.device)
        tick[UPDATES] = 1
        return cls(decayed, betas, tick, *(decayed.new_tensor(number) for number in (BETA2, EPSILON, math.inf)))


Rows = tuple[Tensor, ...]  # the state row by row: weights, mean, square, average, [P] each


class StepResult(NamedTuple):
    """Rows and step state after the step, which members' steps are ``finite`` [members], a record [5, members].

    The record holds loss, norm of the gradient, that norm over its limit, and the norms of the move and of
    the weights before it: what a window reports is computed from these when it is read, not in every step.
    """

    rows: Rows
    step_state: Tensor
    finite: Tensor
    record: Tensor


def adamw_step(
    rows: Rows,
    step_state: Tensor,
    batch: Batch,
    rates: StepRates,
    members: Members,
    constants: Constants,
    config: TrainingConfig,
    out: Rows | tuple[None, ...] = (None,) * 4,
) -> StepResult:
    """Return the result of a step: AdamW (Loshchilov & Hutter 2019) on the clipped gradient, and the moving average.

    A small net pays for the number of torch operations here, not for their size: 30 for one member.

    Args:
        rows: float32 [P] each: weights, Adam's two moments, averaged weights.
        step_state: float64 [rows, members], see ``step_state``.
        batch: gradient and losses.
        rates: of this step.
        members: who owns which parameter.
        constants: see there.
        config: clipping, decay and precision.
        out: where to write the new rows; None allocates them.
    """
    theta, mean, square, average = rows
    gradient = batch.gradient
    if config.precision == "fp16":
        gradient = gradient / members.spread(step_state[SCALE].float())
    norm = members.norm(gradient)
    finite = batch.losses + norm < constants.infinity  # neither infinity nor NaN is; one operation instead of four
    limit = clip_limit(step_state, config)
    excess = (norm / limit).to(norm)
    gradient = gradient / members.spread(excess.clamp_min(1.0))

    counted = step_state + constants.tick
    correction1, correction2 = (1 - constants.betas ** counted[UPDATES]).to(theta).unbind()
    new_mean = torch.lerp(mean, gradient, 1 - BETA1, out=out[MEAN])
    new_square = torch.addcmul(square * constants.beta2, gradient, gradient, value=1 - BETA2, out=out[SQUARE])
    spread = (new_square / members.spread(correction2)).sqrt_().add_(constants.epsilon)
    move = new_mean / spread * members.spread(rates.rate / correction1)
    decay = constants.decayed * members.spread(rates.rate)
    new_theta = torch.addcmul(theta - move, theta, decay, value=-config.weight_decay, out=out[THETA])
    new_average = torch.lerp(average, new_theta, 1 - rates.decay, out=out[AVERAGE])

    record = torch.stack((batch.losses, norm, excess, members.norm(move), members.norm(theta)))
    new_control = next_step_state(step_state, counted, batch, norm, limit, finite, config)
    return StepResult((new_theta, new_mean, new_square, new_average), new_control, finite, record)


def finite_steps(records: Tensor) -> Tensor:
    """Return which steps of records [steps, 5, members] changed their member, [steps, members]."""
    return torch.isfinite(records[:, LOSS] + records[:, NORM])


def add_noise(gradient: Tensor, step_state: Tensor, members: Members, config: TrainingConfig, noise: Tensor) -> Tensor:
    """Add Gaussian ``noise`` [P] of variance gradient_noise / (1 + t)^0.55 (Neelakantan et al. 2015) to a gradient."""
    deviation = (config.gradient_noise / (1 + step_state[UPDATES]) ** NOISE_POWER).sqrt() * step_state[SCALE]
    return gradient + members.spread(deviation.float()) * noise


def next_step_state(
    step_state: Tensor,
    counted: Tensor,
    batch: Batch,
    norm: Tensor,
    limit: Tensor | float,
    finite: Tensor,
    config: TrainingConfig,
) -> Tensor:
    """Return the step state after the step: updated for finite steps, the loss scale in any case."""
    if config.clipping == "fixed" and config.loss != "adaptive_huber" and config.precision != "fp16":
        return torch.where(finite, counted, step_state)  # nothing else changes
    updates, log_norm, log_spread, log_delta, scale, streak = counted.unbind()
    if config.clipping == "adaptive":
        log_norm, log_spread = norm_statistics(step_state, norm, torch.as_tensor(limit))
    if config.loss == "adaptive_huber":
        log_delta = next_log_delta(step_state, batch.residuals, batch.share, config.huber_delta)
    learned = torch.stack((updates, log_norm, log_spread, log_delta))
    if config.precision == "fp16":
        scale, streak = next_scale(step_state, finite)
    kept = torch.where(finite, learned, step_state[: LOG_DELTA + 1])
    return torch.cat((kept, torch.stack((scale, streak))))
