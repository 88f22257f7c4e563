"""Diagnostics of a machine before it trains, each problem with a remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vpoc_ml.config import MachineConfig
from vpoc_ml.errors import VpocError
from vpoc_ml.pipeline import host_checks
from vpoc_ml.training.hardware.device import DeviceChoice, Try, choose_device, describe_gpu
from vpoc_ml.training.hardware.diagnostics import Diagnostic
from vpoc_ml.training.hardware.known_issues import find_known_issues
from vpoc_ml.training.hardware.probe import Hardware, probe_hardware
from vpoc_ml.training.hardware.smoke import smoke_test


def examine(
    lake: str,
    config: MachineConfig,
    *,
    hardware: Hardware | None = None,
    environment: Mapping[str, str] = os.environ,
    connect: host_checks.Connect = host_checks.reachable,
    smoke: Try = smoke_test,
    root: Path = Path("/"),
) -> list[Diagnostic]:
    """Return the diagnostics in order: software, GPUs, the device of a run, memory, lake, services.

    An unusable GPU is a problem if the settings do not allow the CPU, else a warning. With a GPU the smoke test takes
    about two seconds.

    Args:
        lake: root of the lake.
        config: ``device``, ``allow_cpu`` and ``vram_limit_gib`` are read.
        machine, environment, connect, smoke, root: what is examined; the real ones by default.
    """
    hardware = hardware or probe_hardware(environment=environment, root=root)
    device, chosen = _device(config, hardware, smoke)
    diagnostics = [host_checks.check_python(hardware.python), *_software(hardware)]
    diagnostics += [describe_gpu(hardware, gpu) for gpu in hardware.gpus]
    diagnostics += [_weighed(diagnostic, chosen) for diagnostic in find_known_issues(hardware)]
    diagnostics += [device, host_checks.check_memory(root)]
    return [*diagnostics, *host_checks.check_lake(lake), *host_checks.check_services(environment, connect)]


def stops(diagnostics: list[Diagnostic]) -> bool:
    """Return whether any diagnostic stops training."""
    return any(diagnostic.level == "problem" for diagnostic in diagnostics)


def as_json(diagnostics: list[Diagnostic]) -> dict[str, Any]:
    """Return the diagnostics as one JSON-ready object; ``ok`` is false if a problem stops training."""
    return {"ok": not stops(diagnostics), "diagnostics": [asdict(diagnostic) for diagnostic in diagnostics]}


def _software(hardware: Hardware) -> Iterator[Diagnostic]:
    yield Diagnostic("torch", "ok", f"{hardware.torch}, built for {hardware.platform}")
    if hardware.platform == "rocm":
        yield Diagnostic("ROCm", "ok", f"HIP {hardware.hip}, driver {hardware.driver or 'of the kernel'}")
    elif hardware.platform == "cuda":
        yield Diagnostic("CUDA", "ok", f"{hardware.cuda}, driver {hardware.driver or 'unknown'}")


def _device(config: MachineConfig, hardware: Hardware, smoke: Try) -> tuple[Diagnostic, DeviceChoice | None]:
    try:
        chosen = choose_device(config, hardware=hardware, smoke=smoke)
    except VpocError as error:
        return Diagnostic("device", "problem", str(error)), None
    fallback = chosen.device.type == "cpu" and hardware.has_gpu and config.device != "cpu"
    found = f"a run trains on {chosen.device}: {chosen.reason}"
    return Diagnostic("device", "warning" if fallback else "ok", found), chosen


def _weighed(diagnostic: Diagnostic, chosen: DeviceChoice | None) -> Diagnostic:
    """Return a GPU problem as a warning if training on the CPU is allowed."""
    spared = diagnostic.level == "problem" and chosen is not None
    return replace(diagnostic, level="warning") if spared else diagnostic
