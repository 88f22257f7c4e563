"""A test of two seconds whether a GPU computes this run's network as the CPU does."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vpoc_ml.models.guard import GuardedNet
from vpoc_ml.models.residual import ResidualNet

SECONDS = 2.0
ROWS = 1024
LIMITS = {"fp32": 1e-4, "bf16": 1e-2, "step": 5e-2}
COMPARED = {"fp32": "a float32 product", "bf16": "a bfloat16 product", "step": "one training step"}
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Smoke:
    """Largest relative errors compared with the CPU. ``error``: what is wrong, None if nothing is."""

    device: str
    rounds: int
    seconds: float
    fp32: float
    bf16: float
    step: float
    error: str | None

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Probe:
    """What the smoke test computes: a function that makes the run's network on the CPU, and its number of features."""

    build: Build
    inputs: int


NIGHTLY = Probe(lambda: ResidualNet(54, (32, 32), 0.0), 54)


def smoke_test(device: torch.device, probe: Probe = NIGHTLY, seconds: float = SECONDS) -> Smoke:
    """Compare products of the network's own shapes, in float32 and bfloat16, and one training step with the CPU.

    The test repeats for ``seconds``, because some GPUs compute wrong numbers or fault on a later kernel. An error is
    ||device - cpu|| / ||cpu|| of a product, and of the change of the weights by the step.

    Args:
        device: the GPU to test.
        probe: the run's network; the input guard around it is left out.
        seconds: duration; at least one round is made.
    """
    begun, rounds = time.monotonic(), 0
    worst = dict.fromkeys(LIMITS, 0.0)
    failure = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        built = probe.build()
    net = (built.body if isinstance(built, GuardedNet) else built).eval()  # dropout masks differ between devices
    try:
        while failure is None and (rounds == 0 or time.monotonic() - begun < seconds):
            rounds += 1
            for name, error in _round(net, probe.inputs, device, rounds).items():
                worst[name] = max(worst[name], error)
                if not error <= LIMITS[name]:  # NaN too
                    failure = f"{device}: {COMPARED[name]} differs from the CPU's by {error:.2g} of its norm"
    except RuntimeError as error:
        failure = f"{device}: {str(error).splitlines()[0]}"
    return Smoke(str(device), rounds, round(time.monotonic() - begun, 3), **worst, error=failure)


def _round(net: nn.Module, inputs: int, device: torch.device, seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    shapes = sorted({tuple(weight.shape[-2:]) for weight in net.parameters() if weight.dim() >= 2})
    products = [matrix_products(shape[0], shape[1], device, generator) for shape in shapes]
    rows = torch.randn(ROWS, inputs, generator=generator)
    here, there = training_step(net, rows, torch.device("cpu")), training_step(net, rows, device)
    return {
        "fp32": max((pair[0] for pair in products), default=0.0),
        "bf16": max((pair[1] for pair in products), default=0.0),
        "step": _relative(there, here),
    }


def matrix_products(outputs: int, inputs: int, device: torch.device, generator: torch.Generator) -> tuple[float, float]:
    """Return the relative errors of one float32 and one bfloat16 product [ROWS, inputs] x [inputs, outputs]."""
    left = torch.randn(ROWS, inputs, generator=generator)
    right = torch.randn(inputs, outputs, generator=generator)
    single = (left.to(device) @ right.to(device)).cpu()
    rounded = left.bfloat16(), right.bfloat16()
    half = (rounded[0].to(device) @ rounded[1].to(device)).float().cpu()
    return _relative(single, left @ right), _relative(half, rounded[0].float() @ rounded[1].float())


def training_step(net: nn.Module, rows: Tensor, device: torch.device) -> Tensor:
    """Return how forward, backward and update change the weights, [parameters]; every output is pulled to 0.25."""
    copied = copy.deepcopy(net).to(device)
    before = _flat(copied)
    optimizer = torch.optim.SGD(copied.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    loss = (copied(rows.to(device)).float() - 0.25).square().mean()
    loss.backward()
    optimizer.step()
    return _flat(copied) - before


def _flat(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1).cpu().double() for parameter in net.parameters()])


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30))
