"""The arithmetic of one update, in plain torch: clip, Adam, average. Eager and compiled steps share it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vpoc_ml.config import TrainingConfig
from vpoc_ml.training.loop import step_state as columns
from vpoc_ml.training.loop.step_state import LOG_DELTA, SCALE, UPDATES, Members

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
        tick = torch.zeros(columns.ROWS, 1, dtype=torch.float64, device=decayed.device)
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
    gradient = _unscaled(batch.gradient, step_state, members, config)
    norm = members.norm(gradient)
    finite = batch.losses + norm < constants.infinity  # neither infinity nor NaN is; one operation instead of four
    limit = columns.clip_limit(step_state, config)
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


def _unscaled(gradient: Tensor, step_state: Tensor, members: Members, config: TrainingConfig) -> Tensor:
    return gradient / members.spread(step_state[SCALE].float()) if config.precision == "fp16" else gradient


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
        log_norm, log_spread = columns.norm_statistics(step_state, norm, torch.as_tensor(limit))
    if config.loss == "adaptive_huber":
        log_delta = columns.next_log_delta(step_state, batch.residuals, batch.share, config.huber_delta)
    learned = torch.stack((updates, log_norm, log_spread, log_delta))
    if config.precision == "fp16":
        scale, streak = columns.next_scale(step_state, finite)
    kept = torch.where(finite, learned, step_state[: LOG_DELTA + 1])
    return torch.cat((kept, torch.stack((scale, streak))))
