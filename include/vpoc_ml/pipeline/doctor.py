"""Everything that can be wrong with a machine before it trains, looked at once, with a remedy each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vpoc_ml.config import TrainingConfig
from vpoc_ml.errors import VpocError
from vpoc_ml.pipeline import host
from vpoc_ml.training.hardware.device import DeviceChoice, Try, choose_device, describe_card
from vpoc_ml.training.hardware.diagnostics import Finding
from vpoc_ml.training.hardware.known_issues import traps
from vpoc_ml.training.hardware.probe import Machine, look
from vpoc_ml.training.hardware.smoke import smoke_test


def examine(
    lake: str,
    config: TrainingConfig,
    *,
    machine: Machine | None = None,
    environment: Mapping[str, str] = os.environ,
    connect: host.Connect = host.reachable,
    smoke: Try = smoke_test,
    root: Path = Path("/"),
) -> list[Finding]:
    """Return what was looked at, in order: software, cards, the device a run would take, memory, lake, services.

    A card that cannot be used is a problem only where the settings do not allow the CPU; else it is a warning.
    With a card this takes about two seconds, the smoke test.

    Args:
        lake: root of the lake.
        config: ``device``, ``allow_cpu`` and ``vram_limit_gib`` are read.
        machine, environment, connect, smoke, root: what is looked at; the real ones by default.
    """
    machine = machine or look(environment=environment, root=root)
    device, chosen = _device(config, machine, smoke)
    findings = [host.python(machine.python), *_software(machine)]
    findings += [describe_card(machine, card) for card in machine.cards]
    findings += [_weighed(finding, chosen) for finding in traps(machine)]
    findings += [device, host.compiler(), host.memory(root)]
    findings += filter(None, [host.shared_memory(len(machine.cards))])
    return [*findings, *host.lake(lake), *host.services(environment, connect)]


def stops(findings: list[Finding]) -> bool:
    """Return whether any finding stops training."""
    return any(finding.level == "problem" for finding in findings)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings as one JSON-ready object; ``ok`` is false when something stops training."""
    return {"ok": not stops(findings), "findings": [asdict(finding) for finding in findings]}


def _software(machine: Machine) -> Iterator[Finding]:
    yield Finding("torch", "ok", f"{machine.torch}, built for {machine.platform}")
    if machine.platform == "rocm":
        yield Finding("ROCm", "ok", f"HIP {machine.hip}, driver {machine.driver or 'of the kernel'}")
    elif machine.platform == "cuda":
        yield Finding("CUDA", "ok", f"{machine.cuda}, driver {machine.driver or 'unknown'}")


def _device(config: TrainingConfig, machine: Machine, smoke: Try) -> tuple[Finding, DeviceChoice | None]:
    try:
        chosen = choose_device(config, machine=machine, smoke=smoke)
    except VpocError as error:
        return Finding("device", "problem", str(error)), None
    fallback = chosen.device.type == "cpu" and machine.has_card and config.device != "cpu"
    found = f"a run trains on {chosen.device}: {chosen.reason}"
    return Finding("device", "warning" if fallback else "ok", found), chosen


def _weighed(finding: Finding, chosen: DeviceChoice | None) -> Finding:
    """A trap of the card stops nobody who may train on the CPU."""
    spared = finding.level == "problem" and chosen is not None
    return replace(finding, level="warning") if spared else finding
