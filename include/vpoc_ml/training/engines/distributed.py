"""Data-parallel training: every process takes its share of each batch, and one sum a step joins them.

Meant for large nets on several cards. A net of this project's usual size is faster alone: every step waits for the sum,
and the steps are the eager engine's, where one process may take a faster one. Seeds or folds then go one to a card, see
``seeds``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from vpoc_ml.errors import DeviceError
from vpoc_ml.training.engines.eager import Engine, reseed_dropout
from vpoc_ml.training.hardware.device import DeviceChoice
from vpoc_ml.training.loop.adamw_step import Batch, StepRates

SEED_STRIDE = 1_000_003


def world() -> int:
    """Return how many processes train one net together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def process_group() -> Iterator[int]:
    """Join the processes that torchrun started and yield the own rank; NCCL (RCCL) between cards, gloo between CPUs.

    Both where there is a card: which device trains is known later, and is agreed on from CPU to CPU.
    """
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def agreed(choice: DeviceChoice) -> DeviceChoice:
    """Return the device on which this process trains, after all have told theirs: a card each, or the CPU for all.

    A process is left to the CPU where the settings allow it only, so they allow it to the others.

    Raises:
        DeviceError: two processes have one card.
    """
    if world() == 1:
        return choice
    told: list[tuple[str, str]] = [("", "")] * world()
    dist.all_gather_object(told, (str(choice.device), choice.reason))
    left = next(((rank, why) for rank, (device, why) in enumerate(told) if device == "cpu"), None)
    if left is not None:
        why = f"process {left[0]} has no card: {left[1]}"
        return choice if choice.device.type == "cpu" else replace(choice, device=torch.device("cpu"), reason=why)
    gpus = {device for device, _ in told}
    if len(gpus) < world():
        remedy = "Set training.processes to the number of cards."
        raise DeviceError(f"training.processes is {world()}", f"the processes have {len(gpus)} of them", remedy)
    return choice


@dataclass
class DistributedEngine(Engine):
    """The eager engine, whose loss and gradient are those of the whole batch though each process sees a part.

    That holds up to the order of sums for networks that compute each row by itself, see ``possible``. With dropout
    every process draws masks of its own: other ones than a single process, as if from another seed.

    Every process holds all rows and takes every ``world``-th of a batch. Weights start equal, see the same gradient
    and take the same step, so they stay equal to the last bit; nothing but gradients is ever exchanged.
    """

    name: ClassVar[str] = "distributed"
    seed: int = 0

    def _step(self, inputs: Tensor, target: Tensor, share: Tensor, rates: StepRates, seed: int) -> Tensor:
        """Take one step on the whole batch [rows, features]; each process draws other dropout masks."""
        self.seed = seed
        return super()._step(inputs, target, share, rates, seed + SEED_STRIDE * dist.get_rank())

    def _backward(self, inputs: Tensor, target: Tensor, share: Tensor) -> Batch:
        own = slice(dist.get_rank(), None, dist.get_world_size())
        part = super()._backward(inputs[own], target[own], share[own])
        joined = torch.cat((part.gradient, part.losses))  # shares are of the whole batch: the parts add up
        dist.all_reduce(joined)
        self.gradient.copy_(joined[: len(self.gradient)])
        reseed_dropout(inputs.device, self.seed)  # noise on the gradient is drawn next, alike in every process
        losses = joined[len(self.gradient) :]
        if not self.objective.adaptive:
            return Batch(self.gradient, losses, part.residuals, share[own])
        return Batch(self.gradient, losses, _gathered(part.residuals, len(share)), _in_order(share))


def _in_order(share: Tensor) -> Tensor:
    """Return the shares of a batch's rows in the order in which the parts' rows are gathered."""
    return torch.cat([share[rank :: dist.get_world_size()] for rank in range(dist.get_world_size())])


def _gathered(residuals: Tensor, rows: int) -> Tensor:
    """Return the residuals [members, rows] of all parts, one part after the other."""
    counts = [len(range(rank, rows, dist.get_world_size())) for rank in range(dist.get_world_size())]
    padded = residuals.new_zeros(residuals.shape[0], max(counts))
    padded[:, : residuals.shape[1]] = residuals
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:, :count] for part, count in zip(parts, counts, strict=True)], dim=1)
