"""Known traps of GPU machines, ROCm cards first of all, each with its remedy.

Sources: ROCm documentation (environment variables, GPU isolation, running in containers) and issue threads of
pytorch, ROCm and TheRock; docs/gpu.md lists them. A trap that stops training is a ``problem``, one that costs
speed, or bites only later, a ``warning``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from vpoc_ml.training.hardware.diagnostics import Finding, Level
from vpoc_ml.training.hardware.probe import Machine

Check = Callable[[Machine], Finding | None]
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
DEVICES = "--device /dev/kfd --device /dev/dri"
NATIVE = "gfx1100"


def traps(machine: Machine) -> Iterator[Finding]:
    """Yield every trap this machine stands in."""
    for check in CHECKS:
        finding = check(machine)
        if finding is not None:
            yield finding


def wheel(machine: Machine) -> Finding | None:
    """A CPU wheel on a machine with a card: everything works, at a fraction of the speed."""
    if machine.platform != "cpu" or not machine.has_card:
        return None
    build = "CUDA" if "/dev/nvidiactl" in machine.access else "ROCm 7.2"
    return Finding(
        "torch wheel",
        "problem",
        f"torch {machine.torch} is a CPU wheel and this machine has a card",
        f"Install the {build} wheel of torch {machine.torch.partition('+')[0]} from PyTorch's index for {build}.",
    )


def wrong_vendor(machine: Machine) -> Finding | None:
    """A CUDA wheel on an AMD machine, or the other way round, sees no card."""
    if machine.cards or machine.platform == "cpu":
        return None
    if machine.platform == "cuda" and machine.amd and "/dev/nvidiactl" not in machine.access:
        return Finding("torch wheel", "problem", "a CUDA wheel on an AMD card", "Install the ROCm 7.2 wheel.")
    if machine.platform == "rocm" and "/dev/nvidiactl" in machine.access and not machine.amd:
        return Finding("torch wheel", "problem", "a ROCm wheel on an NVIDIA card", "Install the CUDA wheel.")
    return None


def compute_node(machine: Machine) -> Finding | None:
    """/dev/kfd is how ROCm reaches a card; containers get it only when asked for."""
    if machine.platform != "rocm" and not machine.amd:
        return None
    if "/dev/kfd" not in machine.access:
        remedy = f"In a container add {DEVICES}; on the host load the driver: modprobe amdgpu."
        return Finding("/dev/kfd", "problem", "it does not exist", remedy)
    return None


def permissions(machine: Machine) -> Finding | None:
    """The device nodes belong to the groups render and video."""
    closed = [node for node, open_ in machine.access.items() if not open_ and not node.startswith("/dev/nvidia")]
    if not closed or (machine.platform != "rocm" and not machine.amd):
        return None
    return Finding(
        "device nodes",
        "problem",
        f"no permission to use {', '.join(closed)}",
        "Join the groups: usermod -aG render,video $USER; in a container give them as numbers,"
        " --group-add $(getent group render | cut -d: -f3), because the image may not know their names.",
    )


def render_node(machine: Machine) -> Finding | None:
    """A container with /dev/kfd alone lists no card."""
    if "/dev/kfd" not in machine.access or any(node.startswith("/dev/dri/") for node in machine.access):
        return None
    return Finding("/dev/dri", "problem", "/dev/kfd is there and no /dev/dri/renderD*", f"Add {DEVICES}.")


def compiled_for(machine: Machine) -> Finding | None:
    """A wheel without code for the card fails at its first kernel."""
    strange = sorted({card.arch for card in machine.cards} - {_plain(arch) for arch in machine.archs})
    if not strange or not machine.archs:
        return None
    if machine.platform == "cuda":  # CUDA code of a major version runs on its later minor versions
        majors = {arch[:-1] for arch in machine.archs}
        strange = [arch for arch in strange if arch[:-1] not in majors]
    if not strange:
        return None
    return Finding(
        "torch wheel",
        "problem",
        f"no code for {', '.join(strange)} in torch {machine.torch} (it has {', '.join(machine.archs)})",
        "Install a wheel that lists the card; do not set HSA_OVERRIDE_GFX_VERSION to get round it.",
    )


def _plain(arch: str) -> str:
    return arch.partition(":")[0].replace("compute_", "sm_")


def override(machine: Machine) -> Finding | None:
    """HSA_OVERRIDE_GFX_VERSION makes the runtime load another chip's code; gfx1100 is native and needs none."""
    value = machine.environment.get("HSA_OVERRIDE_GFX_VERSION")
    if value is None:
        return None
    native = any(card.arch == NATIVE for card in machine.cards)
    return Finding(
        "HSA_OVERRIDE_GFX_VERSION",
        "problem" if native and value != "11.0.0" else "warning",
        f"it is {value}" + (f" and the card is {NATIVE}, which ROCm supports as it is" if native else ""),
        "Unset it.",
    )


def deprecated_allocator(machine: Machine) -> Finding | None:
    """torch 2.9 renamed the allocator's variable for all back ends."""
    old = [name for name in ALLOCATOR[1:] if name in machine.environment]
    if not old:
        return None
    return Finding(old[0], "warning", "the name is deprecated since torch 2.9", "Use PYTORCH_ALLOC_CONF, or nothing.")


def allocator_pair(machine: Machine) -> Finding | None:
    """expandable_segments with max_split_size_mb: reserved memory grows to the whole card (pytorch #123548)."""
    if not _allocator(machine, "expandable_segments:True") or not _allocator(machine, "max_split_size_mb"):
        return None
    return Finding(
        "PYTORCH_ALLOC_CONF",
        "problem" if machine.platform == "rocm" else "warning",
        "expandable_segments together with max_split_size_mb lets reserved memory grow until the card is full",
        "Set neither; the default is right for nets of this size.",
    )


def expandable_ignored(machine: Machine) -> Finding | None:
    """ROCm builds before torch 2.11 warn and ignore expandable_segments."""
    if machine.platform != "rocm" or not _allocator(machine, "expandable_segments:True"):
        return None
    if _release(machine.torch) >= (2, 11):
        return None
    return Finding(
        "PYTORCH_ALLOC_CONF", "warning", f"expandable_segments does nothing in torch {machine.torch}", "Leave it out."
    )


def _allocator(machine: Machine, setting: str) -> bool:
    wanted = setting.lower()
    return any(wanted in machine.environment.get(name, "").lower() for name in ALLOCATOR)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:2])


def two_filters(machine: Machine) -> Finding | None:
    """HIP_VISIBLE_DEVICES counts what ROCR_VISIBLE_DEVICES has left."""
    environment = machine.environment
    hip = next((name for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if name in environment), None)
    if machine.platform != "rocm" or hip is None:
        return None
    remedy = "Choose cards with ROCR_VISIBLE_DEVICES alone; it works below HIP."
    if "ROCR_VISIBLE_DEVICES" in environment:
        found = f"it is set beside ROCR_VISIBLE_DEVICES and counts the cards that one leaves ({environment[hip]})"
        return Finding(hip, "warning" if machine.cards else "problem", found, remedy)
    return Finding(hip, "note", "it reorders cards and isolates nothing", remedy)


def two_cards(machine: Machine) -> Finding | None:
    """RCCL hangs between consumer cards whose PCIe path has no peer access (ROCm/vllm #390)."""
    if machine.platform != "rocm" or len(machine.cards) < 2:
        return None
    missing = [] if machine.environment.get("NCCL_P2P_DISABLE") == "1" else ["NCCL_P2P_DISABLE=1"]
    missing += [] if "iommu=pt" in machine.kernel_options else ["the kernel option iommu=pt"]
    if not missing:
        return None
    return Finding(
        "two cards",
        "warning",
        f"{len(machine.cards)} cards without {' and '.join(missing)}: data-parallel training may hang",
        "Set them, or train one process a card, which needs neither (vpoc-ml seeds).",
    )


def switched(name: str, good: tuple[str, ...], level: Level, why: str) -> Check:
    """Return the check of a variable that is best left unset."""

    def check(machine: Machine) -> Finding | None:
        value = machine.environment.get(name)
        return None if value is None or value in good else Finding(name, level, f"it is {value}: {why}", "Unset it.")

    return check


CHECKS: tuple[Check, ...] = (
    wheel,
    wrong_vendor,
    compute_node,
    render_node,
    permissions,
    compiled_for,
    override,
    deprecated_allocator,
    allocator_pair,
    expandable_ignored,
    two_filters,
    two_cards,
    switched(
        "TORCH_BLAS_PREFER_HIPBLASLT",
        (),
        "warning",
        "which library is faster on this chip differs by torch and ROCm release",
    ),
    switched("PYTORCH_TUNABLEOP_ENABLED", ("0",), "warning", "tuning made training up to 20 times slower on gfx1100"),
    switched("HSA_XNACK", ("0",), "warning", "page migration does not exist on these cards"),
    switched("HIP_LAUNCH_BLOCKING", ("0",), "warning", "every kernel waits for the one before"),
    switched("CUDA_LAUNCH_BLOCKING", ("0",), "warning", "every kernel waits for the one before"),
)
