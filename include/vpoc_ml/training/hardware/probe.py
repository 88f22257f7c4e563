"""The GPUs of this machine as torch, the kernel and the environment describe them.

``probe_hardware`` reads everything once into one frozen ``Hardware``. All checks (``known_issues``, ``device``,
``doctor``) work on that, so tests pass simulated hardware and need no GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpoc_ml.artifacts.training_result import GpuSummary, HardwareSummary

GIB = 1024**3
AMD = "0x1002"
RELEVANT = ("HIP_", "ROCR_", "CUDA_", "HSA_", "PYTORCH_", "TORCH_", "MIOPEN_")


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use. ``arch``: gfx1100, sm_90, ...; memory in bytes, ``free`` as the driver reports it."""

    index: int
    name: str
    arch: str
    total: int
    free: int

    @property
    def used(self) -> int:
        """Bytes that any process holds on the GPU."""
        return self.total - self.free


@dataclass(frozen=True)
class DrmGpu:
    """A GPU as the kernel shows it below /sys/class/drm; memory in bytes, None if the driver does not report it."""

    name: str
    vendor: str
    used: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Hardware:
    """One reading.

    ``access``: whether this process may use each existing device node; ``error``: torch's own error.
    """

    python: tuple[int, int] = (3, 11)
    torch: str = "2.13.0"
    hip: str | None = None
    cuda: str | None = None
    archs: tuple[str, ...] = ()
    blas: str | None = None
    gpus: tuple[Gpu, ...] = ()
    drm: tuple[DrmGpu, ...] = ()
    access: Mapping[str, bool] = field(default_factory=dict)
    driver: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def platform(self) -> str:
        """``rocm``, ``cuda`` or ``cpu``: what the installed torch was built for. torch calls a ROCm GPU "cuda" too."""
        if self.hip is not None:
            return "rocm"
        return "cpu" if self.cuda is None else "cuda"

    @property
    def amd(self) -> tuple[DrmGpu, ...]:
        """AMD GPUs that the kernel shows."""
        return tuple(gpu for gpu in self.drm if gpu.vendor == AMD)

    @property
    def has_gpu(self) -> bool:
        """Whether the machine has a GPU, even if torch cannot use it."""
        return bool(self.amd) or "/dev/kfd" in self.access or "/dev/nvidiactl" in self.access

    def summary(self) -> HardwareSummary:
        """Return the part that is stored in the record of a run."""
        return HardwareSummary(
            platform=self.platform,
            torch=self.torch,
            hip=self.hip,
            cuda=self.cuda,
            blas=self.blas,
            driver=self.driver,
            gpus=tuple(
                GpuSummary(name=gpu.name, arch=gpu.arch, total_bytes=gpu.total, free_bytes=gpu.free)
                for gpu in self.gpus
            ),
            environment=dict(self.environment),
        )


def probe_hardware(torch: Any = None, environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Hardware:
    """Read this machine. An error of torch is returned in ``error``, not raised.

    Args:
        torch: the torch module; imported when None.
        environment: variables of the process; those that control torch, HIP and CUDA are kept.
        root: root of the file system with /sys and /dev.
    """
    if torch is None:
        import torch as torch_module

        torch = torch_module
    drm = _drm_gpus(root)  # before torch: its own context takes memory
    gpus, error = _torch_gpus(torch)
    nodes = [root / "dev/kfd", root / "dev/nvidiactl", *sorted(root.glob("dev/dri/renderD*"))]
    there = [node for node in nodes if os.path.lexists(node)]
    return Hardware(
        python=(sys.version_info[0], sys.version_info[1]),
        torch=str(torch.__version__),
        hip=torch.version.hip,
        cuda=torch.version.cuda,
        archs=tuple(torch.cuda.get_arch_list()) if gpus else (),
        blas=_blas(torch) if gpus else None,
        gpus=gpus,
        drm=drm,
        access={f"/{node.relative_to(root)}": os.access(node, os.R_OK | os.W_OK) for node in there},
        driver=_text(root / "sys/module/amdgpu/version") or _text(root / "sys/module/nvidia/version"),
        environment={name: value for name, value in sorted(environment.items()) if name.startswith(RELEVANT)},
        error=error,
    )


def _torch_gpus(torch: Any) -> tuple[tuple[Gpu, ...], str | None]:
    """Return the GPUs that torch can open, and the reason where there are none."""
    if not torch.cuda.is_available():
        return (), f"torch {torch.__version__} sees no GPU"
    gpus = []
    try:
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            # "gfx1100:sramecc-:xnack-" on ROCm; a CUDA build has major and minor instead
            is_rocm = torch.version.hip is not None
            arch = found.gcnArchName.split(":")[0] if is_rocm else f"sm_{found.major}{found.minor}"
            gpus.append(Gpu(index, str(found.name), arch, int(total), int(free)))
    except RuntimeError as error:
        return (), f"torch {torch.__version__} cannot open its GPU: {error}"
    return tuple(gpus), None


def _blas(torch: Any) -> str:
    """Return the GEMM library torch prefers; on ROCm cuBLAS stands for hipBLAS, cuBLASLt for hipBLASLt."""
    name = str(torch.backends.cuda.preferred_blas_library()).rpartition(".")[2].lower()
    return name.replace("cublas", "hipblas") if torch.version.hip is not None else name


def _drm_gpus(root: Path) -> tuple[DrmGpu, ...]:
    folders = [path for path in sorted(root.glob("sys/class/drm/card*")) if path.name[4:].isdigit()]
    return tuple(
        DrmGpu(
            folder.name,
            _text(folder / "device/vendor") or "",
            _number(folder / "device/mem_info_vram_used"),
            _number(folder / "device/mem_info_vram_total"),
        )
        for folder in folders
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdigit() else None
