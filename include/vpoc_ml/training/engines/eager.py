"""The eager engine: one training step in plain torch. It is the reference that any faster engine must reproduce.

Everything a step changes lies in two tensors: ``state`` [4, parameters] holds weights, Adam's two moments
and the averaged weights, ``step_state`` [6, members] the few numbers that pass from step to step. The network's
parameters are views of the state's first row, their gradients views of one flat vector. So clipping is one
norm, Adam one expression, and undoing a step is one ``torch.where``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vpoc_ml.config import TrainingConfig
from vpoc_ml.training.loop.adamw_step import (
    AVERAGE,
    LOG_DELTA,
    MEAN,
    RECORD,
    SCALE,
    SQUARE,
    THETA,
    Batch,
    Constants,
    Members,
    StepRates,
    adamw_step,
    add_noise,
    clip_limit,
    finite_steps,
    first_step_state,
)
from vpoc_ml.training.loop.objective import Objective, shares
from vpoc_ml.training.loop.schedule import StepSchedule

__all__ = ["AVERAGE", "MEAN", "SQUARE", "THETA", "Engine", "Window", "reseed_dropout"]

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
Snapshot = tuple[Tensor, Tensor]


class Window(NamedTuple):
    """What the monitor reads from the device about one member: the steps since the last read."""

    steps: int
    accepted: int
    loss: float
    norm_mean: float
    norm_max: float
    clip_share: float
    update_ratio_max: float
    finite: bool
    clip_limit: float = 0.0
    loss_scale: float = 1.0
    delta: float = 0.0


@dataclass
class Engine:
    """A network, its flat state and one record per step of the window, all on one device."""

    name: ClassVar[str] = "eager"

    net: nn.Module
    config: TrainingConfig
    objective: Objective = field(default_factory=Objective)
    select: bool = True
    state: Tensor = field(init=False)
    step_state: Tensor = field(init=False)

    def __post_init__(self) -> None:
        parameters = list(self.net.parameters())
        theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        self.members = Members.of(self.net)
        self.state = torch.stack((theta, torch.zeros_like(theta), torch.zeros_like(theta), theta))
        self.step_state = first_step_state(self.members.count, self.config, theta.device)
        self.candidate = torch.empty_like(self.state)
        self.rows, self.proposed = self.state.unbind(), self.candidate.unbind()
        self.gradient = torch.zeros_like(theta)
        self.constants = Constants.of(self._decayed(parameters).to(theta))
        self.factor = torch.ones(self.members.count, device=theta.device)
        self.records = torch.zeros(self.config.monitor_steps, RECORD, self.members.count, device=theta.device)
        self.steps_taken = 0
        self._share(parameters)

    def _decayed(self, parameters: list[nn.Parameter]) -> Tensor:
        """Weight decay applies to matrices only: a decayed bias or norm gain loses what it learned."""
        decays: Callable[[], list[bool]] | None = getattr(self.net, "decays", None)
        stacked = self.members.count > 1
        matrices = [p.dim() > 1 + stacked for p in parameters] if decays is None else decays()
        return torch.cat([torch.full((p.numel(),), float(m)) for p, m in zip(parameters, matrices, strict=True)])

    def _share(self, parameters: list[nn.Parameter]) -> None:
        """Make parameters and gradients views of the flat state."""
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.data = self.state[THETA, start:stop].view_as(parameter)
            parameter.grad = self.gradient[start:stop].view_as(parameter)
            start = stop

    def step(self, inputs: Tensor, target: Tensor, weight: Tensor, *, rate: float, decay: float, seed: int) -> None:
        """Take one optimisation step: inputs [batch, features], target and weight [batch], float32.

        A step whose loss or gradient is not finite leaves the state bit for bit as it was. That is
        decided on the device, for each member by itself; the host reads it with the next window.
        """
        self.steps((inputs, target, weight), 0, StepSchedule(len(inputs), [rate], [decay], [seed]))

    def steps(self, rows: tuple[Tensor, Tensor, Tensor], start: int, step_schedule: StepSchedule) -> None:
        """Take the steps of ``plan`` on consecutive batches of ``rows``, the first at batch ``start``.

        Args:
            rows: inputs [rows, features], target [rows], weight [rows], in the order of the epoch.
            start: number of the first batch in the epoch.
            plan: batch size, and the rate, decay and seed of each step.
        """
        inputs, target, weight = step_schedule.batches(rows, start)
        # What steps can share is computed here once: an operation costs the same for one step as for all
        batches = zip(inputs.unbind(), target.unbind(), shares(weight).unbind(), strict=True)
        rates = torch.tensor(step_schedule.rates).to(self.factor.device, non_blocking=True).unsqueeze(1) * self.factor
        numbers = zip(map(StepRates, rates.unbind(), step_schedule.decays), step_schedule.seeds, strict=True)
        records = [self.single_step(*batch, *number) for batch, number in zip(batches, numbers, strict=True)]
        self.records[self.steps_taken : self.steps_taken + len(records)] = torch.stack(records)
        self.steps_taken += len(records)

    def single_step(self, inputs: Tensor, target: Tensor, share: Tensor, rates: StepRates, seed: int) -> Tensor:
        """Take one step and return its record [5, members]; share [batch] is each row's share of the batch's weight."""
        reseed_dropout(inputs.device, seed)
        batch = self.compute_gradient(inputs, target, share)
        with torch.inference_mode():  # like no_grad, without any preparation for a backward pass
            if self.config.gradient_noise:
                noise = torch.randn_like(self.gradient)
                batch = batch._replace(
                    gradient=add_noise(batch.gradient, self.step_state, self.members, self.config, noise)
                )
            result = adamw_step(
                self.rows, self.step_state, batch, rates, self.members, self.constants, self.config, self.proposed
            )
            if self.select:
                # Selection, not multiplication: 0 * NaN is NaN, which is how other guards die
                torch.where(self.members.spread(result.finite), self.candidate, self.state, out=self.state)
            else:
                self.state.copy_(self.candidate)
            self.step_state.copy_(result.step_state)
        return result.record

    def forward(self, net: nn.Module, inputs: Tensor) -> Tensor:
        """Return predictions [members, rows(, outputs)] in float32, computed in the precision of the settings."""
        with self._autocast(inputs.device):
            outputs: Tensor = net(inputs)
        return self.objective.by_member(outputs)

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self.config.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, FORMATS[self.config.precision])

    def compute_gradient(self, inputs: Tensor, target: Tensor, share: Tensor) -> Batch:
        """Fill the gradient, ``batch_size`` rows at a time; but for dropout the sum is that of all at once."""
        self.gradient.zero_()
        if len(inputs) <= self.config.batch_size:
            return Batch(self.gradient, *self._backward_part(inputs, target, share), share)
        parts = [
            self._backward_part(*rows)
            for rows in zip(*(torch.split(c, self.config.batch_size) for c in (inputs, target, share)), strict=True)
        ]
        losses, residuals = zip(*parts, strict=True)
        return Batch(self.gradient, torch.stack(losses).sum(0), torch.cat(residuals, dim=1), share)

    def _backward_part(self, inputs: Tensor, target: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        minimised, reported, residuals = self.errors(self.forward(self.net, inputs), target, self.step_state)
        # The loss is the sum of errors times shares, so its gradient by an error is the row's share
        slope = self.scaled(share.expand_as(minimised), self.step_state)
        minimised.backward(slope)  # type: ignore[no-untyped-call]
        return torch.mv(reported.detach(), share), residuals.detach()

    def errors(self, predictions: Tensor, target: Tensor, step_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return each row's error to be minimised and to be reported, and the residuals an adaptive delta needs.

        All are [members, rows]. Without an adaptive delta the first two are the same and the residuals are unused.
        """
        if not self.objective.adaptive:
            minimised = self.objective.errors(predictions, target)
            return minimised, minimised, predictions
        minimised = self.objective.errors(predictions, target, step_state[LOG_DELTA].exp().float())
        return minimised, self.objective.errors(predictions, target), predictions - target

    def scaled(self, values: Tensor, step_state: Tensor) -> Tensor:
        """Return values [members, ...] times the loss scale of each member, which only fp16 has."""
        if self.config.precision != "fp16":
            return values
        return values * step_state[SCALE].float().view(-1, *[1] * (values.dim() - 1))

    def read_windows(self) -> list[Window]:
        """Return each member's facts since the last read, at most ``monitor_steps`` steps; the only host read."""
        records = self.records[: self.steps_taken].cpu().double()
        finite = self.members.all(torch.isfinite(self.state).all(0)).tolist()
        limits = torch.as_tensor(clip_limit(self.step_state, self.config)).expand(self.members.count).tolist()
        scales, deltas = self.step_state[SCALE].tolist(), self.step_state[LOG_DELTA].exp().tolist()
        steps, self.steps_taken = self.steps_taken, 0
        return [
            _window(records[:, :, member], steps, *facts)
            for member, facts in enumerate(zip(finite, limits, scales, deltas, strict=True))
        ]

    def read_window(self) -> Window:
        """Return the facts of the first member: all there is of a plain network."""
        return self.read_windows()[0]

    def snapshot(self) -> Snapshot:
        """Return copies of the state and of the step state."""
        return self.state.clone(), self.step_state.clone()

    def restore(self, snapshot: Snapshot, members: list[int] | None = None) -> None:
        """Restore a snapshot in place, so that the network's views stay valid.

        Args:
            snapshot: what ``snapshot`` returned.
            members: those to restore; None for all, as when a run resumes. A member that is rolled back keeps its
                loss scale, which may be too large and must be able to decrease.
        """
        if members is None:
            self.state.copy_(snapshot[0])
            self.step_state.copy_(snapshot[1])
            return
        chosen = torch.zeros(self.members.count, dtype=torch.bool, device=self.state.device)
        chosen[members] = True
        torch.where(self.members.spread(chosen), snapshot[0], self.state, out=self.state)
        self.step_state[:SCALE] = torch.where(chosen, snapshot[1], self.step_state)[:SCALE]

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


def _window(records: Tensor, steps: int, finite: bool, limit: float, scale: float, delta: float) -> Window:
    accepted = records[finite_steps(records)]
    if len(accepted) == 0:
        return Window(steps, 0, 0.0, 0.0, 0.0, 0.0, 0.0, finite, limit, scale, delta)
    loss, norm, excess, move, length = accepted.unbind(1)
    clipped, ratio = (excess > 1).double(), move / length
    facts = [float(fact) for fact in (loss.mean(), norm.mean(), norm.max(), clipped.mean(), ratio.max())]
    loss_mean, norm_mean, norm_max, clip_share, ratio_max = facts
    return Window(
        steps, len(accepted), loss_mean, norm_mean, norm_max, clip_share, ratio_max, finite, limit, scale, delta
    )


def reseed_dropout(device: torch.device, seed: int) -> None:
    """Seed the generator that dropout draws from on ``device``."""
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
