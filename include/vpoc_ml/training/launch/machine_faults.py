"""Which exceptions of a training are faults of the machine: another try may succeed, and resumes.

torch, polars and the system raise classes of their own, and one class has several causes. Every other exception is a
fault of the program, which a retry would only repeat.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import polars as pl
import torch

from vpoc_ml.errors import MachineError, StorageError
from vpoc_ml.lake.atomic import REFUSALS
from vpoc_ml.training.hardware.device import DOCTOR

NO_MEMORY = re.compile("out of memory|can't allocate memory|_STATUS_ALLOC_FAILED")
"""What a ``RuntimeError`` about memory says: torch's CPU allocator and the BLAS of a GPU have no class of their own."""
GPU_ERROR = re.compile("(CUDA|HIP) error: ")
PROGRAM_FAULT = re.compile(
    "device-side assert|invalid device function|no kernel image|_STATUS_(INVALID_VALUE|NOT_SUPPORTED)"
)
"""What the first line of a GPU's error says about code that is wrong, or built for another GPU: it would fail again.

Later lines are torch's advice about debugging. They are the same for every error.
"""

UNREACHABLE = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOLCK,
}
"""Numbers of errors of a disk or a network file system that does not answer."""
PASSING_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # a disk that fails becomes read-only
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # polars gives the number only in the text of its error


def machine_fault(error: Exception, run_dir: Path) -> MachineError | None:
    """Return the typed error for a fault of the machine, None if ``error`` is no such fault.

    Too little memory always counts as one: other processes on a shared GPU may hold the rest. Settings that need more
    than there is fail in every try, so the message names what to reduce.

    Args:
        error: what training raised.
        run_dir: folder of the run, named where the file system's error names no file.
    """
    text, number = str(error).strip(), _error_number(error)
    first = (text or "no message").splitlines()[0]
    found = f"{type(error).__name__}: {first.rstrip('.')}"
    of_torch = isinstance(error, RuntimeError)
    no_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or number == errno.ENOMEM
    if no_memory or (of_torch and NO_MEMORY.search(text)):
        return MachineError(
            f"Expected enough memory to train; out of memory ({found}). End what else uses the memory of the GPU or the"
            " machine. If nothing does, lower training.batch_size, model.hidden_dims or model.members, or train on"
            " fewer rows. Then start it again: it resumes."
        )
    if of_torch and PROGRAM_FAULT.search(first):
        return None
    if isinstance(error, torch.AcceleratorError) or (of_torch and GPU_ERROR.match(text)):
        remedy = f"Start it again: it resumes. If the error stays, {DOCTOR}"
        return MachineError(f"Expected the GPU to train without a fault; found {found}. {remedy}")
    path = getattr(error, "filename", None) or run_dir
    if number in PASSING_REFUSALS:
        expected, remedy, reason = REFUSALS[number]
        return StorageError(path, expected, reason, remedy)
    if number in UNREACHABLE:
        remedy = "Check the disk, or the server of a network file system."
        return StorageError(path, "a file system that answers", os.strerror(number), remedy)
    return None


def _error_number(error: Exception) -> int | None:
    """Return the number of the system's error, None if there is none."""
    if not isinstance(error, OSError | pl.exceptions.PolarsError):
        return None
    stated = _SYSTEM_ERROR.search(str(error))
    return getattr(error, "errno", None) or (int(stated[1]) if stated else None)
