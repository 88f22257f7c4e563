"""The choice of the device that trains, and the test whether a GPU computes this run's network as the CPU does."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from vpoc_ml.config import MachineConfig
from vpoc_ml.errors import DeviceError, GpuBusyError
from vpoc_ml.models.guard import GuardedNet
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.hardware.known_issues import Diagnostic, find_known_issues
from vpoc_ml.training.hardware.probe import GIB, Gpu, Hardware, probe_hardware

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


# Number of this process among those of a seed study
WORKER_VARIABLE = "_VPOC_ML_TRAINING_WORKER"
CONTEXT_BYTES = 512 * 1024**2
COPIES = 4
DOCTOR = "`vpoc-ml doctor` names the cause; machine.device=cpu trains without a GPU."
Try = Callable[[torch.device, Probe], Smoke]


@dataclass(frozen=True)
class DeviceChoice:
    """A device, the reason for it, and a report for the record of the run.

    ``busy``: the error of a busy GPU in whose place the CPU trains.
    """

    device: torch.device
    reason: str
    report: dict[str, JsonValue] = field(default_factory=dict)
    busy: GpuBusyError | None = None


def choose_device(
    config: MachineConfig,
    probe: Probe = NIGHTLY,
    *,
    needed: int = 0,
    hardware: Hardware | None = None,
    smoke: Try = smoke_test,
) -> DeviceChoice:
    """Return the device for training. torch calls a ROCm GPU ``cuda`` too.

    A GPU is chosen only if no known issue prevents it, other processes hold at most ``machine.vram_limit_gib`` of its
    memory, ``needed`` bytes are free, and the smoke test agrees with the CPU. The processes of a seed study take one
    GPU each.

    Args:
        config: ``device``, ``allow_cpu`` and ``vram_limit_gib`` are read.
        probe: the run's network, for the smoke test.
        needed: bytes of GPU memory that the run needs, see ``memory_needed``.
        hardware: the hardware; probed if None.
        smoke: the smoke test.

    Raises:
        DeviceError: the settings do not allow a device that works.
        GpuBusyError: another process holds the GPU and the CPU is not allowed.
    """
    cpu = torch.device("cpu")
    if config.device == "cpu":
        if not config.allow_cpu:
            remedy = "Set machine.device to auto, cuda or rocm, or allow the CPU."
            raise DeviceError("machine.allow_cpu is false", "machine.device is cpu", remedy)
        return DeviceChoice(cpu, "machine.device is cpu")
    hardware = hardware or probe_hardware()
    report: dict[str, JsonValue] = {
        "hardware": hardware.summary().to_json(),
        "known_issues": [str(each) for each in find_known_issues(hardware)],
    }
    obstacle = gpu_obstacle(hardware, config, needed)
    if obstacle is None:
        gpu = own_gpu(hardware)
        tested = smoke(torch.device("cuda", gpu.index), probe)
        report["smoke"] = tested.summary()
        if tested.error is None:
            return DeviceChoice(torch.device(tested.device), f"{gpu.name} ({gpu.arch}) passed the smoke test", report)
        obstacle = tested.error
    busy = obstacle if isinstance(obstacle, GpuBusyError) else None
    if config.device == "auto" and config.allow_cpu:
        return DeviceChoice(cpu, str(obstacle), report, busy)
    required = f"machine.device is {config.device}, machine.allow_cpu {str(config.allow_cpu).lower()}"
    raise busy or DeviceError(required, str(obstacle), DOCTOR)


def gpu_obstacle(hardware: Hardware, config: MachineConfig, needed: int = 0) -> str | GpuBusyError | None:
    """Return the reason that this process cannot use its GPU, None if it can; a busy GPU gives an error."""
    return (
        permanent_obstacle(hardware, config, needed)
        or busy_gpu(hardware, config.vram_limit_gib)
        or too_full(own_gpu(hardware), needed)
    )


def permanent_obstacle(hardware: Hardware, config: MachineConfig, needed: int = 0) -> str | None:
    """Return the reason that no GPU could be used even if it were free, or None; nothing is computed on a GPU."""
    if config.device == "rocm" and hardware.platform != "rocm":  # "cuda" is torch's own word for both
        return f"torch {hardware.torch} is built for {hardware.platform}, not for ROCm"
    problem = next((diagnostic for diagnostic in find_known_issues(hardware) if diagnostic.level == "problem"), None)
    if problem is not None:
        return str(problem)
    if not hardware.gpus:
        return hardware.error or f"torch {hardware.torch} sees no GPU"
    gpu = own_gpu(hardware)
    return too_full(gpu, needed) if gpu.total < needed else None


def too_full(gpu: Gpu, needed: int) -> str | None:
    """Return a message if ``needed`` bytes are not free on a GPU, else None."""
    if gpu.free >= needed:
        return None
    return f"GPU {gpu.index} has {gpu.free / GIB:.1f} GiB free and the run needs {needed / GIB:.1f} GiB"


def own_gpu(hardware: Hardware) -> Gpu:
    """Return the GPU of this process: the first, or in a seed study that of the worker number.

    Workers share GPUs if there are more workers than GPUs.
    """
    return hardware.gpus[int(os.environ.get(WORKER_VARIABLE, "0")) % len(hardware.gpus)]


def busy_gpu(hardware: Hardware, limit: float) -> GpuBusyError | None:
    """Return the error for memory that other processes hold; ``limit`` in GiB, 0: no check.

    The kernel's count is used if it exists for every GPU: it was read before torch opened the GPU, and it includes
    memory that a dead process left behind.
    """
    gpu, counted = own_gpu(hardware), [each.used for each in hardware.amd]
    known = len(counted) == len(hardware.gpus) and None not in counted
    used = counted[gpu.index] if known else max(0, gpu.used - CONTEXT_BYTES)
    if limit == 0 or used is None or used <= limit * GIB:
        return None
    return GpuBusyError(gpu.index, used, limit)


def memory_needed(training_set: Path, features: int) -> int:
    """Return an upper bound of the GPU memory that a run needs, in bytes; 0 if there is no training set yet.

    All rows and what gathering those of some steps takes, float32, and half a GiB for torch's own context,
    in which the weights of the nets trained here are lost.
    """
    if not training_set.is_file():
        return 0
    rows = int(pl.scan_parquet(training_set).select(pl.len()).collect().item())
    return COPIES * 4 * rows * (features + 2) + CONTEXT_BYTES


def describe_gpu(hardware: Hardware, gpu: Gpu) -> Diagnostic:
    """Return the diagnostic that shows a GPU and its memory."""
    found = f"{gpu.name}, {gpu.arch}, {gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free, {hardware.blas}"
    return Diagnostic(f"GPU {gpu.index}", "ok", found)
