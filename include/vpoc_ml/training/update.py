"""The arithmetic of one update, in plain torch: clip, Adam, average. Eager and compiled steps share it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vpoc_ml.config import TrainingConfig
from vpoc_ml.training import control as columns
from vpoc_ml.training.control import LOG_DELTA, SCALE, UPDATES
from vpoc_ml.training.members import Members

THETA, MEAN, SQUARE, AVERAGE = range(4)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NOISE_POWER = 0.55
SOUND, LOSS, NORM, CLIPPED, RATIO = range(5)
RECORD = 5


class Batch(NamedTuple):
    """What the network made of a step's rows; all detached. ``gradient`` [P] is that of the scaled loss.

    ``losses`` [members] are reported, so an adaptive loss enters at its fixed delta; ``residuals``
    [members, rows] and ``weight`` [rows] are looked at for an adaptive delta only.
    """

    gradient: Tensor
    losses: Tensor
    residuals: Tensor
    weight: Tensor


class Rates(NamedTuple):
    """Learning rate of each member [members], and the decay of the averaged weights."""

    rate: Tensor
    decay: Tensor | float


class Outcome(NamedTuple):
    """State and control as they would be, which members' steps are ``sound`` [members], a record [5, members]."""

    state: Tensor
    control: Tensor
    sound: Tensor
    record: Tensor


def propose(
    state: Tensor,
    control: Tensor,
    batch: Batch,
    rates: Rates,
    members: Members,
    decayed: Tensor,
    config: TrainingConfig,
    out: Tensor | None = None,
) -> Outcome:
    """Return the outcome of a step: AdamW (Loshchilov & Hutter 2019) on the clipped gradient, and the moving average.

    Args:
        state: float32 [4, P]: weights, Adam's two moments, averaged weights.
        control: float64 [rows, members], see ``control``.
        batch: gradient and losses.
        rates: of this step.
        members: who owns which parameter.
        decayed: float32 [P], 1 where weight decay applies.
        config: clipping, decay and precision.
        out: [4, P] to write the candidate state into.
    """
    theta, mean, square, average = state.unbind()
    gradient = _unscaled(batch.gradient, control, members, config)
    norm = members.norm(gradient)
    sound = batch.losses + norm < math.inf  # neither infinity nor NaN is; one operation instead of four
    limit = columns.clip_limit(control, config)
    shrink = (limit / (norm + 1e-6)).clamp_max(1.0).to(norm)
    gradient = gradient * members.spread(shrink)

    count = control[UPDATES] + 1
    correction1, correction2 = (1 - torch.stack((BETA1**count, BETA2**count))).to(theta).unbind()
    step, rate = members.spread(rates.rate / correction1), members.spread(rates.rate)
    new_mean = torch.lerp(mean, gradient, 1 - BETA1)
    new_square = torch.addcmul(square * BETA2, gradient, gradient, value=1 - BETA2)
    move = new_mean / (new_square / members.spread(correction2)).sqrt_().add_(EPSILON) * step
    new_theta = theta - torch.addcmul(move, theta * decayed, rate, value=config.weight_decay)
    new_average = torch.lerp(average, new_theta, 1 - rates.decay)
    candidate = torch.stack((new_theta, new_mean, new_square, new_average), out=out)

    ratio = (members.squares(move) / members.squares(theta)).sqrt()
    record = torch.stack((sound, batch.losses, norm, norm > limit, ratio))
    return Outcome(candidate, _next_control(control, batch, norm, limit, sound, config), sound, record)


def add_noise(gradient: Tensor, control: Tensor, members: Members, config: TrainingConfig, noise: Tensor) -> Tensor:
    """Add Gaussian ``noise`` [P] of variance gradient_noise / (1 + t)^0.55 (Neelakantan et al. 2015) to a gradient."""
    deviation = (config.gradient_noise / (1 + control[UPDATES]) ** NOISE_POWER).sqrt() * control[SCALE]
    return gradient + members.spread(deviation.float()) * noise


def _unscaled(gradient: Tensor, control: Tensor, members: Members, config: TrainingConfig) -> Tensor:
    return gradient / members.spread(control[SCALE].float()) if config.precision == "fp16" else gradient


def _next_control(
    control: Tensor, batch: Batch, norm: Tensor, limit: Tensor | float, sound: Tensor, config: TrainingConfig
) -> Tensor:
    """Return the control after the step: counted and learned where it is sound, the loss scale in any case."""
    if config.clipping == "fixed" and config.loss != "adaptive_huber" and config.precision != "fp16":
        return torch.cat(((control[UPDATES] + sound).unsqueeze(0), control[UPDATES + 1 :]))  # nothing else is learned
    updates, log_norm, log_spread, log_delta, scale, streak = control.unbind()
    if config.clipping == "adaptive":
        log_norm, log_spread = columns.norm_statistics(control, norm, torch.as_tensor(limit))
    if config.loss == "adaptive_huber":
        log_delta = columns.next_log_delta(control, batch.residuals, batch.weight, config.huber_delta)
    learned = torch.stack((updates + 1, log_norm, log_spread, log_delta))
    if config.precision == "fp16":
        scale, streak = columns.next_scale(control, sound)
    kept = torch.where(sound, learned, control[: LOG_DELTA + 1])
    return torch.cat((kept, torch.stack((scale, streak))))
