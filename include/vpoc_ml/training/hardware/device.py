"""Which device trains, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import torch
from pydantic import JsonValue

from vpoc_ml.config import MachineConfig
from vpoc_ml.errors import DeviceError, GpuBusyError
from vpoc_ml.training.hardware.diagnostics import Diagnostic
from vpoc_ml.training.hardware.known_issues import find_known_issues
from vpoc_ml.training.hardware.probe import GIB, Gpu, Hardware, probe_hardware
from vpoc_ml.training.hardware.smoke import NIGHTLY, Probe, Smoke, smoke_test

# Number of this process among those of a seed study
WORKER_VARIABLE = "_VPOC_ML_TRAINING_WORKER"
CONTEXT_BYTES = 512 * 1024**2
COPIES = 4
DOCTOR = "`vpoc-ml doctor` names the cause; machine.device cpu trains without a card."
Try = Callable[[torch.device, Probe], Smoke]


@dataclass(frozen=True)
class DeviceChoice:
    """A device, the reason it was chosen, and what was found on the way, for the record of the run.

    ``busy`` is why the CPU stands in for a card that somebody else holds.
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
    """Return the device for training; a ROCm card is ``cuda`` to torch.

    A card is taken when no known trap forbids it, nobody else holds more than ``machine.vram_limit_gib`` of it,
    ``needed`` bytes are free, and the smoke test agrees with the CPU. Under torchrun the process takes the card of
    its local rank.

    Args:
        config: ``device``, ``allow_cpu`` and ``vram_limit_gib`` are read.
        probe: the run's network, for the smoke test.
        needed: bytes of card memory the run will take, see ``memory_needed``.
        machine: what this machine says; looked up when None.
        smoke: the smoke test.

    Raises:
        DeviceError: the settings do not allow a device that works.
        CardBusyError: somebody else holds the card and the CPU is not allowed.
    """
    cpu = torch.device("cpu")
    if config.device == "cpu":
        if not config.allow_cpu:
            remedy = "Set machine.device to auto, cuda or rocm, or allow the CPU."
            raise DeviceError("machine.allow_cpu is false", "machine.device is cpu", remedy)
        return DeviceChoice(cpu, "machine.device is cpu")
    hardware = hardware or probe_hardware()
    report: dict[str, JsonValue] = {
        "hardware": hardware.summary(),
        "known_issues": [str(each) for each in find_known_issues(hardware)],
    }
    obstacle = why_not(hardware, config, needed)
    if obstacle is None:
        gpu = own_gpu(hardware)
        tested = smoke(torch.device("cuda", gpu.index), probe)
        report["smoke"] = tested.summary()
        if tested.trouble is None:
            return DeviceChoice(torch.device(tested.device), f"{gpu.name} ({gpu.arch}) passed the smoke test", report)
        obstacle = tested.trouble
    busy = obstacle if isinstance(obstacle, GpuBusyError) else None
    if config.device == "auto" and config.allow_cpu:
        return DeviceChoice(cpu, str(obstacle), report, busy)
    asked = f"machine.device is {config.device}, machine.allow_cpu {str(config.allow_cpu).lower()}"
    raise busy or DeviceError(asked, str(obstacle), DOCTOR)


def why_not(hardware: Hardware, config: MachineConfig, needed: int = 0) -> str | GpuBusyError | None:
    """Return why this process's card cannot be used, as an error where somebody else holds it, or None."""
    return (
        unusable(hardware, config, needed)
        or busy_gpu(hardware, config.vram_limit_gib)
        or too_full(own_gpu(hardware), needed)
    )


def unusable(hardware: Hardware, config: MachineConfig, needed: int = 0) -> str | None:
    """Return why no card of this machine could be used even if it were free, or None; nothing is computed on it."""
    if config.device == "rocm" and hardware.platform != "rocm":  # "cuda" is torch's own word for both
        return f"torch {hardware.torch} is built for {hardware.platform}, not for ROCm"
    problem = next((diagnostic for diagnostic in find_known_issues(hardware) if diagnostic.level == "problem"), None)
    if problem is not None:
        return str(problem)
    if not hardware.gpus:
        return hardware.trouble or f"torch {hardware.torch} sees no GPU"
    gpu = own_gpu(hardware)
    return too_full(gpu, needed) if gpu.total < needed else None


def too_full(gpu: Gpu, needed: int) -> str | None:
    """Return that ``needed`` bytes are not free on a card, or None."""
    if gpu.free >= needed:
        return None
    return f"GPU {gpu.index} has {gpu.free / GIB:.1f} GiB free and the run needs {needed / GIB:.1f} GiB"


def own_gpu(hardware: Hardware) -> Gpu:
    """Return the card of this process: the first, or under torchrun that of the local rank.

    Processes that train apart share cards where there are more of them; those of one run may not, see ``unusable``.
    """
    return hardware.gpus[int(os.environ.get(WORKER_VARIABLE, "0")) % len(hardware.gpus)]


def busy_gpu(hardware: Hardware, limit: float) -> GpuBusyError | None:
    """Return the error for memory that was in use before this process came; ``limit`` in GiB, 0: do not look.

    The kernel's own count is used where there is one for every card: it was read before torch opened the card,
    and it also knows memory that a dead process left behind.
    """
    gpu, counted = own_gpu(hardware), [each.used for each in hardware.amd]
    known = len(counted) == len(hardware.gpus) and None not in counted
    used = counted[gpu.index] if known else max(0, gpu.used - CONTEXT_BYTES)
    if limit == 0 or used is None or used <= limit * GIB:
        return None
    return GpuBusyError(gpu.index, used, limit)


def memory_needed(training_set: Path, features: int) -> int:
    """Return a bound of the card memory a run takes, in bytes; 0 when there is no training set yet.

    All rows, their shuffled copy and what gathering it takes, float32, and half a GiB for torch's own context,
    in which the weights of the nets trained here are lost.
    """
    if not training_set.is_file():
        return 0
    rows = int(pl.scan_parquet(training_set).select(pl.len()).collect().item())
    return COPIES * 4 * rows * (features + 2) + CONTEXT_BYTES


def describe_gpu(hardware: Hardware, gpu: Gpu) -> Diagnostic:
    """Return the finding that shows a card and its memory."""
    found = f"{gpu.name}, {gpu.arch}, {gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free, {hardware.blas}"
    return Diagnostic(f"GPU {gpu.index}", "ok", found)
