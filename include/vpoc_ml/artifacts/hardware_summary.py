"""The part of a machine's description that is stored in the record of a run."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class GpuSummary(JsonArtifact):
    """A GPU that torch can use; memory in bytes."""

    name: str
    arch: str
    total_bytes: int
    free_bytes: int


class HardwareSummary(JsonArtifact):
    """A machine.

    Attributes:
        platform: ``rocm``, ``cuda`` or ``cpu``: what torch was built for.
        torch, hip, cuda: versions; None for what torch was not built with.
        blas: preferred GEMM library; None without a GPU.
        driver: version of the GPU's driver; None if the kernel does not report it.
        gpus: GPUs that torch can use.
        environment: variables that control torch, HIP and CUDA.
    """

    platform: str
    torch: str
    hip: str | None
    cuda: str | None
    blas: str | None
    driver: str | None
    gpus: tuple[GpuSummary, ...]
    environment: dict[str, str]
