"""The compiled engine: several whole steps as one graph, built by torch.compile. The arithmetic is the eager engine's.

The graph is a pure function from state and control to state and control, so nothing in it depends on the
host: rates are 0-d tensors, the guards select on the device, and a call takes ``GROUP`` steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch.func import functional_call, grad

from vpoc_ml.training.engines.eager import Engine, reseed_dropout
from vpoc_ml.training.loop.adamw_step import THETA, Batch, StepRates, adamw_step, add_noise
from vpoc_ml.training.loop.loss import shares
from vpoc_ml.training.loop.schedule import StepSchedule

GROUP = 4
SMALL_PRODUCT = 32_768  # multiplications below which a fused loop beats a call of a matrix product
Steps = Callable[..., tuple[Tensor, Tensor, Tensor]]


@dataclass
class CompiledEngine(Engine):
    """Same state, same guards, same records as the eager engine; dropout draws other masks from the same seeds.

    Steps that do not fill a group are taken by the eager engine. Groups start where windows start, so a
    resumed run groups its steps as the whole run did.
    """

    name: ClassVar[str] = "compiled"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.spans, start = {}, 0
        for name, parameter in self.net.named_parameters():
            self.spans[name] = (start, start + parameter.numel(), parameter.shape)
            start += parameter.numel()
        self.groups: dict[tuple[int, ...], Steps] = {}
        if self.state.device.type == "cpu":
            get_cpp_compiler()  # raises now what would otherwise end minutes of building

    def steps(self, rows: tuple[Tensor, Tensor, Tensor], start: int, step_schedule: StepSchedule) -> None:
        """Take the steps of ``plan``, ``GROUP`` at a call; see ``Engine.steps``."""
        full = len(step_schedule.rates) // GROUP * GROUP
        for at in range(0, full, GROUP):
            self._take_group(rows, start + at, step_schedule.part(at, at + GROUP))
        if full < len(step_schedule.rates):
            super().steps(rows, start + full, step_schedule.part(full))

    def _take_group(self, rows: tuple[Tensor, Tensor, Tensor], start: int, step_schedule: StepSchedule) -> None:
        shaped = step_schedule.batches(rows, start)
        device = self.state.device
        rates = torch.tensor([step_schedule.rates, step_schedule.decays]).to(device, non_blocking=True)
        reseed_dropout(device, step_schedule.seeds[0])
        call = self._built(shaped[0])
        state, step_state, records = call(self.state, self.step_state, self.factor, *shaped, *rates.unbind())
        self.state.copy_(state)
        self.step_state.copy_(step_state)
        self.records[self.steps_taken : self.steps_taken + GROUP] = records
        self.steps_taken += GROUP

    def _built(self, inputs: Tensor) -> Steps:
        """Return the compiled function for inputs [steps, rows, features]; building it takes a minute or more."""
        key = tuple(inputs.shape)
        if key not in self.groups:
            net = lean_copy(self.net, rows=key[1]) if inputs.device.type == "cpu" else self.net
            # From Python the hundreds of buffers of one group cost as much as their arithmetic
            options: dict[str, Any] = {"cpp_wrapper": True} if inputs.device.type == "cpu" else {}
            self.groups[key] = torch.compile(self._steps_of(net), fullgraph=True, dynamic=False, options=options)
        return self.groups[key]

    def _steps_of(self, net: nn.Module) -> Steps:
        config, members, constants = self.config, self.members, self.constants

        def loss(
            theta: Tensor, step_state: Tensor, inputs: Tensor, target: Tensor, share: Tensor
        ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            weights = {name: theta[start:stop].view(shape) for name, (start, stop, shape) in self.spans.items()}
            with self._autocast(inputs.device):
                outputs = functional_call(net, weights, (inputs,))
            predictions = self.objective.by_member(outputs)
            minimised, reported, residuals = self.errors(predictions, target, step_state)
            loss = self.scaled(torch.mv(minimised, share), step_state).sum()
            return loss, (torch.mv(reported.detach(), share), residuals.detach())

        slope = grad(loss, has_aux=True)

        def steps(
            state: Tensor,
            step_state: Tensor,
            factor: Tensor,
            inputs: Tensor,
            target: Tensor,
            weight: Tensor,
            rates: Tensor,
            decays: Tensor,
        ) -> tuple[Tensor, Tensor, Tensor]:
            kept, records = state.unbind(), []  # row by row: a stack in the middle could not be fused
            for x, y, share, rate, decay in zip(inputs, target, shares(weight), rates, decays, strict=True):
                gradient, (reported, residuals) = slope(kept[THETA], step_state, x, y, share)
                if config.gradient_noise:
                    gradient = add_noise(gradient, step_state, members, config, torch.randn_like(gradient))
                batch = Batch(gradient, reported, residuals, share)
                result = adamw_step(
                    kept, step_state, batch, StepRates(factor * rate, decay), members, constants, config
                )
                if self.select:
                    finite = members.spread(result.finite)
                    kept = tuple(torch.where(finite, new, old) for new, old in zip(result.rows, kept, strict=True))
                else:
                    kept = result.rows
                step_state = result.step_state
                records.append(result.record)
            return torch.stack(kept), step_state, torch.stack(records)

        return steps


class BroadcastLinear(nn.Module):
    """A linear layer as a product and a sum, which the compiler fuses with what surrounds it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = (x.unsqueeze(-2) * self.weight).sum(-1)
        return summed if self.bias is None else summed + self.bias


def lean_copy(net: nn.Module, rows: int) -> nn.Module:
    """Return a copy whose linear layers are broadcast products where the products are small."""
    lean = copy.deepcopy(net)
    for parent in list(lean.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and rows * child.in_features * child.out_features <= SMALL_PRODUCT:
                setattr(parent, name, BroadcastLinear(child))
    return lean
