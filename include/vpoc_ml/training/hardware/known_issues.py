"""Known issues of GPU machines, mainly with ROCm, each with its remedy.

Sources: ROCm documentation (environment variables, GPU isolation, running in containers) and issue threads of
pytorch, ROCm and TheRock; docs/gpu.md lists them. An issue that prevents training is a ``problem``. One that costs
speed or fails later is a ``warning``. Each check returns a ``Diagnostic``, or None if it does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from vpoc_ml.training.hardware.probe import Hardware

Level = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True)
class Diagnostic:
    """What was checked, what was found and what to do.

    A ``problem`` prevents training, a ``warning`` costs speed or safety, ``note`` and ``ok`` require nothing.
    """

    subject: str
    level: Level
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.found}. {self.remedy}".rstrip()


Check = Callable[[Hardware], Diagnostic | None]
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
DEVICES = "--device /dev/kfd --device /dev/dri"
NATIVE = "gfx1100"


def find_known_issues(hardware: Hardware) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each known issue of this hardware."""
    for check in CHECKS:
        diagnostic = check(hardware)
        if diagnostic is not None:
            yield diagnostic


def wheel(hardware: Hardware) -> Diagnostic | None:
    """A CPU wheel on a machine with a GPU: everything works, at a fraction of the speed."""
    if hardware.platform != "cpu" or not hardware.has_gpu:
        return None
    build = "CUDA" if "/dev/nvidiactl" in hardware.access else "ROCm 7.2"
    return Diagnostic(
        "torch wheel",
        "problem",
        f"torch {hardware.torch} is a CPU wheel and this machine has a GPU",
        f"Install the {build} wheel of torch {hardware.torch.partition('+')[0]} from PyTorch's index for {build}.",
    )


def wrong_vendor(hardware: Hardware) -> Diagnostic | None:
    """A CUDA wheel finds no AMD GPU, and a ROCm wheel no NVIDIA GPU."""
    if hardware.gpus or hardware.platform == "cpu":
        return None
    if hardware.platform == "cuda" and hardware.amd and "/dev/nvidiactl" not in hardware.access:
        return Diagnostic("torch wheel", "problem", "a CUDA wheel with an AMD GPU", "Install the ROCm 7.2 wheel.")
    if hardware.platform == "rocm" and "/dev/nvidiactl" in hardware.access and not hardware.amd:
        return Diagnostic("torch wheel", "problem", "a ROCm wheel with an NVIDIA GPU", "Install the CUDA wheel.")
    return None


def compute_node(hardware: Hardware) -> Diagnostic | None:
    """ROCm reaches a GPU through /dev/kfd; a container has it only if it was started with it."""
    if hardware.platform != "rocm" and not hardware.amd:
        return None
    if "/dev/kfd" not in hardware.access:
        remedy = f"In a container add {DEVICES}; on the host load the driver: modprobe amdgpu."
        return Diagnostic("/dev/kfd", "problem", "it does not exist", remedy)
    return None


def permissions(hardware: Hardware) -> Diagnostic | None:
    """The device nodes belong to the groups render and video."""
    closed = [node for node, open_ in hardware.access.items() if not open_ and not node.startswith("/dev/nvidia")]
    if not closed or (hardware.platform != "rocm" and not hardware.amd):
        return None
    return Diagnostic(
        "device nodes",
        "problem",
        f"no permission to use {', '.join(closed)}",
        "Join the groups: usermod -aG render,video $USER; in a container give them as numbers,"
        " --group-add $(getent group render | cut -d: -f3), because the image may not know their names.",
    )


def render_node(hardware: Hardware) -> Diagnostic | None:
    """A container with /dev/kfd alone lists no GPU."""
    if "/dev/kfd" not in hardware.access or any(node.startswith("/dev/dri/") for node in hardware.access):
        return None
    return Diagnostic("/dev/dri", "problem", "/dev/kfd exists, but no /dev/dri/renderD*", f"Add {DEVICES}.")


def compiled_for(hardware: Hardware) -> Diagnostic | None:
    """A wheel without code for the GPU fails at its first kernel."""
    known = {arch.partition(":")[0].replace("compute_", "sm_") for arch in hardware.archs}
    unsupported = sorted({gpu.arch for gpu in hardware.gpus} - known)
    if not unsupported or not hardware.archs:
        return None
    if hardware.platform == "cuda":  # CUDA code of a major version runs on its later minor versions
        majors = {arch[:-1] for arch in hardware.archs}
        unsupported = [arch for arch in unsupported if arch[:-1] not in majors]
    if not unsupported:
        return None
    return Diagnostic(
        "torch wheel",
        "problem",
        f"no code for {', '.join(unsupported)} in torch {hardware.torch} (it has {', '.join(hardware.archs)})",
        "Install a wheel that lists the GPU. HSA_OVERRIDE_GFX_VERSION is no remedy.",
    )


def override(hardware: Hardware) -> Diagnostic | None:
    """HSA_OVERRIDE_GFX_VERSION makes the runtime load the code of another chip; gfx1100 is native and needs none."""
    value = hardware.environment.get("HSA_OVERRIDE_GFX_VERSION")
    if value is None:
        return None
    native = any(gpu.arch == NATIVE for gpu in hardware.gpus)
    return Diagnostic(
        "HSA_OVERRIDE_GFX_VERSION",
        "problem" if native and value != "11.0.0" else "warning",
        f"it is {value}" + (f" and the GPU is {NATIVE}, which ROCm supports without it" if native else ""),
        "Unset it.",
    )


def deprecated_allocator(hardware: Hardware) -> Diagnostic | None:
    """torch 2.9 renamed the allocator's variable for all back ends."""
    old = [name for name in ALLOCATOR[1:] if name in hardware.environment]
    if not old:
        return None
    return Diagnostic(
        old[0], "warning", "the name is deprecated since torch 2.9", "Use PYTORCH_ALLOC_CONF, or nothing."
    )


def allocator_pair(hardware: Hardware) -> Diagnostic | None:
    """expandable_segments with max_split_size_mb: reserved memory grows to all GPU memory (pytorch #123548)."""
    if not _allocator(hardware, "expandable_segments:True") or not _allocator(hardware, "max_split_size_mb"):
        return None
    return Diagnostic(
        "PYTORCH_ALLOC_CONF",
        "problem" if hardware.platform == "rocm" else "warning",
        "expandable_segments together with max_split_size_mb lets reserved memory grow until the GPU is full",
        "Set neither; the default is right for nets of this size.",
    )


def expandable_ignored(hardware: Hardware) -> Diagnostic | None:
    """ROCm builds before torch 2.11 warn and ignore expandable_segments."""
    if hardware.platform != "rocm" or not _allocator(hardware, "expandable_segments:True"):
        return None
    release = [int(part) for part in re.findall(r"\d+", hardware.torch.partition("+")[0])[:2]]
    if release >= [2, 11]:
        return None
    return Diagnostic(
        "PYTORCH_ALLOC_CONF", "warning", f"expandable_segments does nothing in torch {hardware.torch}", "Leave it out."
    )


def _allocator(hardware: Hardware, setting: str) -> bool:
    wanted = setting.lower()
    return any(wanted in hardware.environment.get(name, "").lower() for name in ALLOCATOR)


def two_filters(hardware: Hardware) -> Diagnostic | None:
    """HIP_VISIBLE_DEVICES counts the GPUs that ROCR_VISIBLE_DEVICES leaves."""
    environment = hardware.environment
    hip = next((name for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if name in environment), None)
    if hardware.platform != "rocm" or hip is None:
        return None
    remedy = "Select GPUs with ROCR_VISIBLE_DEVICES alone; it works below HIP."
    if "ROCR_VISIBLE_DEVICES" in environment:
        found = f"it counts the GPUs that ROCR_VISIBLE_DEVICES leaves, which is set too ({environment[hip]})"
        return Diagnostic(hip, "warning" if hardware.gpus else "problem", found, remedy)
    return Diagnostic(hip, "note", "it reorders GPUs and isolates nothing", remedy)


def set_variable(name: str, harmless: tuple[str, ...], level: Level, reason: str) -> Check:
    """Return a check that reports an environment variable unless it is unset or has a ``harmless`` value."""

    def check(hardware: Hardware) -> Diagnostic | None:
        value = hardware.environment.get(name)
        return (
            None
            if value is None or value in harmless
            else Diagnostic(name, level, f"it is {value}: {reason}", "Unset it.")
        )

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
    set_variable(
        "TORCH_BLAS_PREFER_HIPBLASLT",
        (),
        "warning",
        "which library is faster on this chip differs by torch and ROCm release",
    ),
    set_variable(
        "PYTORCH_TUNABLEOP_ENABLED", ("0",), "warning", "tuning made training up to 20 times slower on gfx1100"
    ),
    set_variable("HSA_XNACK", ("0",), "warning", "these GPUs have no page migration"),
    set_variable("HIP_LAUNCH_BLOCKING", ("0",), "warning", "every kernel waits for the previous one"),
    set_variable("CUDA_LAUNCH_BLOCKING", ("0",), "warning", "every kernel waits for the previous one"),
)
