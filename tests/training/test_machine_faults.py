"""Which exceptions of a training are faults of the machine, and what is reported in their place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from vpoc_ml.errors import MachineError, StorageError
from vpoc_ml.training.launch.machine_faults import machine_fault

RUN = Path("/lake/runs/night")
REDUCE = "lower training.batch_size, model.hidden_dims or model.members, or train on fewer rows"
FULL_GPU = (
    "HIP out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 19.98 GiB of which 8 MiB is free."
)
ADVICE = """
Search for `hipErrorIllegalAddress' in the documentation for more information.
HIP kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
For debugging consider passing AMD_SERIALIZE_KERNEL=3
Device-side assertions were explicitly omitted for this error check.
Compile with `TORCH_USE_HIP_DSA` to enable device-side assertions.
"""
"""What torch appends to every error of a GPU."""
ILLEGAL = f"HIP error: an illegal memory access was encountered{ADVICE}"


def raised_by(program) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what the test is about
        program()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL_GPU),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        raised_by(lambda: torch.empty(2**50)),
        raised_by(lambda: np.empty(2**50)),
    ],
    ids=["gpu", "runtime", "blas", "python", "system", "torch on the CPU", "numpy"],
)
def test_too_little_memory_is_reported_with_what_to_reduce(error):
    fault = machine_fault(error, RUN)
    assert type(fault) is MachineError
    assert str(fault).startswith(f"Expected enough memory to train; out of memory ({type(error).__name__}: ")
    assert REDUCE in str(fault)
    assert str(error).partition("\n")[0].rstrip(".") in str(fault)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(ILLEGAL),
        torch.AcceleratorError(f"CUDA error: unspecified launch failure{ADVICE}"),
        RuntimeError("CUDA error: HIPBLAS_STATUS_INTERNAL_ERROR when calling `hipblasSgemm(handle)`"),
        RuntimeError("HIP error: hipErrorLaunchFailure"),
    ],
)
def test_a_gpu_that_fails_is_reported_in_one_line(error):
    fault = machine_fault(error, RUN)
    assert type(fault) is MachineError
    found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert str(fault).startswith(f"Expected the GPU to train without a fault; found {found}. Start it again")
    assert "`vpoc-ml doctor` names the cause; machine.device=cpu" in str(fault)
    assert "\n" not in str(fault)


@pytest.mark.parametrize(
    ("error", "path", "reported"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/lake/a"),
            "/lake/a",
            "that answers; found Input/output error. Check",
        ),
        (OSError(errno.ESTALE, "Stale file handle"), RUN, "that answers; found Stale file handle. Check the disk"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), RUN, "that answers; found Connection timed out"),
        (OSError(errno.ENOSPC, "No space left on device"), RUN, "room for the file; found no space left on the disk"),
        (OSError(errno.EROFS, "Read-only file system"), RUN, "found a read-only file system. Mount it writable"),
        (OSError("Input/output error (os error 5)"), RUN, "that answers; found Input/output error"),
        (pl.exceptions.ComputeError("Stale file handle (os error 116)"), RUN, "found Stale file handle"),
    ],
)
def test_a_file_system_that_fails_is_reported_with_its_path_and_a_remedy(error, path, reported):
    fault = machine_fault(error, RUN)
    assert type(fault) is StorageError
    assert str(fault).startswith(f"{path}: expected ")
    assert reported in str(fault)
    assert str(fault).endswith("Then run the stage again: it resumes.")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (64x54 and 32x1)"),
        RuntimeError("a memory of the past"),
        torch.AcceleratorError(f"CUDA error: device-side assert triggered{ADVICE}"),
        torch.AcceleratorError("HIP error: invalid device function"),
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("CUDA error: HIPBLAS_STATUS_NOT_SUPPORTED when calling `hipblasLtMatmul`"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/lake/a"),
        PermissionError(errno.EACCES, "Permission denied", "/lake/a"),
        OSError("a text without a number"),
        ValueError("out of memory"),
        ValueError("Input/output error (os error 5)"),
        TypeError("float expected"),
        KeyError("median"),
        AssertionError(),
    ],
    ids=repr,
)
def test_faults_of_the_program_are_none_of_the_machine(error):
    assert machine_fault(error, RUN) is None
