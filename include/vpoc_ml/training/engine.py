"""The eager engine: one training step in plain torch. This is the truth any faster engine must reproduce.

Everything a step changes lies in one tensor ``state`` [4, parameters]: weights, Adam's two moments and
the averaged weights. The network's parameters are views of its first row, their gradients views of one
flat vector. So clipping is one norm, Adam one expression, and undoing a step is one ``torch.where``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vpoc_ml.config import TrainingConfig
from vpoc_ml.training.loss import weighted_huber

THETA, MEAN, SQUARE, AVERAGE = range(4)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Window(NamedTuple):
    """What the monitor reads from the device: facts about the steps since the last read."""

    steps: int
    accepted: int
    loss: float
    norm_mean: float
    norm_max: float
    clip_share: float
    update_ratio_max: float
    finite: bool


@dataclass
class Engine:
    """A network, its flat state and one record per step of the window, all on one device."""

    net: nn.Module
    config: TrainingConfig
    select: bool = True
    state: Tensor = field(init=False)
    updates: Tensor = field(init=False)

    def __post_init__(self) -> None:
        parameters = list(self.net.parameters())
        theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        self.state = torch.stack((theta, torch.zeros_like(theta), torch.zeros_like(theta), theta))
        self.candidate = torch.empty_like(self.state)
        self.gradient = torch.zeros_like(theta)
        # Decay pulls matrices to zero; a decayed bias or norm gain only loses what it learned.
        self.decayed = torch.cat([torch.full((p.numel(),), float(p.dim() > 1)) for p in parameters]).to(theta)
        self.updates = torch.zeros((), device=theta.device)
        self.records = torch.zeros(self.config.monitor_steps, 5, device=theta.device)
        self.steps = 0
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.data = self.state[THETA, start:stop].view_as(parameter)
            parameter.grad = self.gradient[start:stop].view_as(parameter)
            start = stop

    def step(self, inputs: Tensor, target: Tensor, weight: Tensor, *, rate: float, decay: float, seed: int) -> None:
        """Take one optimisation step: inputs [batch, features], target and weight [batch], float32.

        A step whose loss or gradient is not finite leaves the state bit for bit as it was. That is
        decided on the device; the host learns of it at the next ``read_window``.
        """
        config = self.config
        reseed_dropout(inputs.device, seed)
        self.gradient.zero_()
        loss = weighted_huber(self.net(inputs), target, weight, config.huber_delta)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            norm = torch.dot(self.gradient, self.gradient).sqrt_()
            sound = torch.isfinite(loss + norm)
            shrink = (config.gradient_clip / (norm + 1e-6)).clamp_max(1.0)
            gradient = self.gradient.mul_(shrink)

            # AdamW (Loshchilov & Hutter 2019) and the moving average, into the candidate
            theta, mean, square, average = self.state
            new_theta, new_mean, new_square, new_average = self.candidate
            count = self.updates + 1
            torch.lerp(mean, gradient, 1 - BETA1, out=new_mean)
            torch.mul(square, BETA2, out=new_square).addcmul_(gradient, gradient, value=1 - BETA2)
            scale = (new_square / (1 - BETA2**count)).sqrt_().add_(EPSILON)
            move = (new_mean / scale).mul_(rate / (1 - BETA1**count))
            torch.addcmul(theta, theta, self.decayed, value=-rate * config.weight_decay, out=new_theta).sub_(move)
            torch.lerp(average, new_theta, 1 - decay, out=new_average)

            # Selection, not multiplication: 0 * NaN is NaN, which is how other guards die
            ratio = (torch.dot(move, move) / torch.dot(theta, theta)).sqrt_()
            if self.select:
                torch.where(sound, self.candidate, self.state, out=self.state)
                self.updates.add_(sound)
            else:
                self.state.copy_(self.candidate)
                self.updates.add_(1)

            torch.stack((sound, loss, norm, norm > config.gradient_clip, ratio), out=self.records[self.steps])
        self.steps += 1

    def read_window(self) -> Window:
        """Return the facts since the last read, at most ``monitor_steps`` steps; the only host read of training."""
        records = self.records[: self.steps].cpu().double()
        accepted = records[records[:, 0] > 0]
        steps, self.steps, count = self.steps, 0, len(accepted)
        finite = bool(torch.isfinite(self.state).all())
        if count == 0:
            return Window(steps, 0, 0.0, 0.0, 0.0, 0.0, 0.0, finite)
        _, loss, norm, clipped, _ = accepted.mean(dim=0).tolist()
        _, _, norm_max, _, ratio_max = accepted.amax(dim=0).tolist()
        return Window(steps, count, loss, norm, norm_max, clipped, ratio_max, finite)

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Return copies of the state and the number of accepted updates."""
        return self.state.clone(), self.updates.clone()

    def restore(self, snapshot: tuple[Tensor, Tensor]) -> None:
        """Go back to a snapshot, in place, so that the network's views stay valid."""
        self.state.copy_(snapshot[0])
        self.updates.copy_(snapshot[1])

    @contextmanager
    def using(self, weights: Tensor) -> Iterator[nn.Module]:
        """Yield the network in eval mode with other flat weights; put the trained ones back afterwards."""
        trained = self.state[THETA].clone()
        try:
            self.state[THETA].copy_(weights)
            yield self.net.eval()
        finally:
            self.state[THETA].copy_(trained)
            self.net.train()


def reseed_dropout(device: torch.device, seed: int) -> None:
    """Seed the generator that dropout draws from on ``device``."""
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
