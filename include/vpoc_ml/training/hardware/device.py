"""Which device trains, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch

from vpoc_ml.config import TrainingConfig
from vpoc_ml.errors import CardBusyError, DeviceError
from vpoc_ml.training.hardware.diagnostics import Finding
from vpoc_ml.training.hardware.known_issues import traps
from vpoc_ml.training.hardware.probe import GIB, Card, Machine, look
from vpoc_ml.training.hardware.smoke import NIGHTLY, Probe, Smoke, smoke_test

CONTEXT_BYTES = 512 * 1024**2
COPIES = 4
DOCTOR = "`vpoc-ml doctor` names the cause; training.device cpu trains without a card."
Try = Callable[[torch.device, Probe], Smoke]


@dataclass(frozen=True)
class DeviceChoice:
    """A device, the reason it was chosen, and what was found on the way, for the record of the run.

    ``busy`` is why the CPU stands in for a card that somebody else holds.
    """

    device: torch.device
    reason: str
    report: dict[str, Any] = field(default_factory=dict)
    busy: CardBusyError | None = None


def choose_device(
    config: TrainingConfig,
    probe: Probe = NIGHTLY,
    *,
    needed: int = 0,
    machine: Machine | None = None,
    smoke: Try = smoke_test,
) -> DeviceChoice:
    """Return the device for training; a ROCm card is ``cuda`` to torch.

    A card is taken when no known trap forbids it, nobody else holds more than ``training.vram_limit_gib`` of it,
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
            remedy = "Set training.device to auto, cuda or rocm, or allow the CPU."
            raise DeviceError("training.allow_cpu is false", "training.device is cpu", remedy)
        return DeviceChoice(cpu, "training.device is cpu")
    machine = machine or look()
    report: dict[str, Any] = {"machine": machine.summary(), "findings": [str(each) for each in traps(machine)]}
    obstacle = why_not(machine, config, needed)
    if obstacle is None:
        card = own_card(machine)
        tested = smoke(torch.device("cuda", card.index), probe)
        report["smoke"] = tested.summary()
        if tested.trouble is None:
            return DeviceChoice(torch.device(tested.device), f"{card.name} ({card.arch}) passed the smoke test", report)
        obstacle = tested.trouble
    busy = obstacle if isinstance(obstacle, CardBusyError) else None
    if config.device == "auto" and config.allow_cpu:
        return DeviceChoice(cpu, str(obstacle), report, busy)
    asked = f"training.device is {config.device}, training.allow_cpu {str(config.allow_cpu).lower()}"
    raise busy or DeviceError(asked, str(obstacle), DOCTOR)


def why_not(machine: Machine, config: TrainingConfig, needed: int = 0) -> str | CardBusyError | None:
    """Return why this process's card cannot be used, as an error where somebody else holds it, or None."""
    return (
        unusable(machine, config, needed)
        or busy_card(machine, config.vram_limit_gib)
        or too_full(own_card(machine), needed)
    )


def unusable(machine: Machine, config: TrainingConfig, needed: int = 0) -> str | None:
    """Return why no card of this machine could be used even if it were free, or None; nothing is computed on it."""
    if config.device == "rocm" and machine.platform != "rocm":  # "cuda" is torch's own word for both
        return f"torch {machine.torch} is built for {machine.platform}, not for ROCm"
    problem = next((finding for finding in traps(machine) if finding.level == "problem"), None)
    if problem is not None:
        return str(problem)
    if not machine.cards:
        return machine.trouble or f"torch {machine.torch} sees no GPU"
    if config.processes > len(machine.cards):
        return f"training.processes is {config.processes}, each takes a card, and torch sees {len(machine.cards)}"
    card = own_card(machine)
    return too_full(card, needed) if card.total < needed else None


def too_full(card: Card, needed: int) -> str | None:
    """Return that ``needed`` bytes are not free on a card, or None."""
    if card.free >= needed:
        return None
    return f"GPU {card.index} has {card.free / GIB:.1f} GiB free and the run needs {needed / GIB:.1f} GiB"


def own_card(machine: Machine) -> Card:
    """Return the card of this process: the first, or under torchrun that of the local rank.

    Processes that train apart share cards where there are more of them; those of one run may not, see ``unusable``.
    """
    return machine.cards[int(os.environ.get("LOCAL_RANK", "0")) % len(machine.cards)]


def busy_card(machine: Machine, limit: float) -> CardBusyError | None:
    """Return the error for memory that was in use before this process came; ``limit`` in GiB, 0: do not look.

    The kernel's own count is used where there is one for every card: it was read before torch opened the card,
    and it also knows memory that a dead process left behind.
    """
    card, counted = own_card(machine), [each.used for each in machine.amd]
    known = len(counted) == len(machine.cards) and None not in counted
    used = counted[card.index] if known else max(0, card.used - CONTEXT_BYTES)
    if limit == 0 or used is None or used <= limit * GIB:
        return None
    return CardBusyError(card.index, used, limit)


def memory_needed(training_set: Path, features: int) -> int:
    """Return a bound of the card memory a run takes, in bytes; 0 when there is no training set yet.

    All rows, their shuffled copy and what gathering it takes, float32, and half a GiB for torch's own context,
    in which the weights of the nets trained here are lost.
    """
    if not training_set.is_file():
        return 0
    rows = int(pl.scan_parquet(training_set).select(pl.len()).collect().item())
    return COPIES * 4 * rows * (features + 2) + CONTEXT_BYTES


def describe_card(machine: Machine, card: Card) -> Finding:
    """Return the finding that shows a card and its memory."""
    found = f"{card.name}, {card.arch}, {card.free / GIB:.1f} of {card.total / GIB:.1f} GiB free, {machine.blas}"
    return Finding(f"GPU {card.index}", "ok", found)
