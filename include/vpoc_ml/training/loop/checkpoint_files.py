"""Names of the checkpoints in a folder. Standard library only: the training task imports it."""

from __future__ import annotations

from pathlib import Path


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return the file of the checkpoint after ``step`` optimizer steps: ``step-000000000120.ckpt``."""
    return folder / f"step-{step:012d}.ckpt"


def stored_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder by their steps, the newest last; none where there is no folder.

    The order is that of the steps in the names: a file's time depends on a clock that may jump back.
    """
    return sorted(folder.glob("step-*.ckpt"))
