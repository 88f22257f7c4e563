"""Simulated hardware: a fake /sys, a fake torch, and readings of known GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vpoc_ml.training.hardware.probe import AMD, GIB, DrmGpu, Gpu, Hardware

NODES = {"/dev/kfd": True, "/dev/dri/renderD128": True}


def radeon(gpus: int = 1, **changes: Any) -> Hardware:
    """A healthy worker with RX 7900 XT GPUs."""
    hardware = Hardware(
        torch="2.13.0+rocm7.2",
        hip="7.2.26015",
        archs=("gfx1030", "gfx1100", "gfx1101"),
        blas="hipblas",
        gpus=tuple(
            Gpu(index, "AMD Radeon RX 7900 XT", "gfx1100", 20 * GIB, 19 * GIB + GIB // 2) for index in range(gpus)
        ),
        drm=tuple(DrmGpu(f"card{index}", AMD, GIB // 8, 20 * GIB) for index in range(gpus)),
        access=dict(NODES),
        driver="6.16.6",
        environment={"ROCR_VISIBLE_DEVICES": "0"},
    )
    return replace(hardware, **changes)


def hopper(**changes: Any) -> Hardware:
    """A healthy NVIDIA machine."""
    hardware = Hardware(
        torch="2.13.0+cu130",
        cuda="13.0",
        archs=("sm_80", "sm_90", "compute_90"),
        blas="cublas",
        gpus=(Gpu(0, "NVIDIA H100", "sm_90", 80 * GIB, 79 * GIB + GIB // 2),),
        access={"/dev/nvidiactl": True},
    )
    return replace(hardware, **changes)


def system(root: Path, *, gpus: int = 1, used: int = 0) -> Path:
    """Write the files of a machine with AMD GPUs below ``root``."""
    for index in range(gpus):
        device = root / f"sys/class/drm/card{index}/device"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x1002\n")
        (device / "mem_info_vram_used").write_text(f"{used}\n")
        (device / "mem_info_vram_total").write_text(f"{20 * GIB}\n")
        (root / f"sys/class/drm/card{index}-DP-1").mkdir()
    (root / "sys/module/amdgpu").mkdir(parents=True)
    (root / "sys/module/amdgpu/version").write_text("6.16.6\n")
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n")
    (root / "dev/dri").mkdir(parents=True)
    for node in ("dev/kfd", "dev/dri/renderD128", "dev/dri/card0"):
        (root / node).touch()
    return root


def fake_torch(*, gpus: int = 1, hip: str | None = "7.2.26015", broken: str = "") -> Any:
    """A torch module with the parts that ``probe_hardware`` reads."""

    def properties(index: int) -> Any:
        if broken:
            raise RuntimeError(broken)
        return SimpleNamespace(
            name="AMD Radeon RX 7900 XT", gcnArchName="gfx1100:sramecc-:xnack-", major=11, minor=0, index=index
        )

    cuda = SimpleNamespace(
        is_available=lambda: gpus > 0,
        device_count=lambda: gpus,
        get_device_properties=properties,
        mem_get_info=lambda index: (19 * GIB, 20 * GIB),
        get_arch_list=lambda: ["gfx1030", "gfx1100"],
    )
    blas = SimpleNamespace(preferred_blas_library=lambda: "_BlasBackend.Cublas")
    return SimpleNamespace(
        __version__="2.13.0+rocm7.2",
        version=SimpleNamespace(hip=hip, cuda=None if hip else "13.0"),
        cuda=cuda,
        backends=SimpleNamespace(cuda=blas),
    )
