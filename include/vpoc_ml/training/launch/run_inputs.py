"""The files that training reads beside ``config.json``, and run folders that share another run's by links."""

from __future__ import annotations

from pathlib import Path

from vpoc_ml.config import RunConfig
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.lake.hashing import hash_file

INPUTS = ("training_set.parquet", "feature_statistics.json")


def hash_inputs(run_dir: Path) -> list[str]:
    """Return the SHA-256 of each input of a run, in the order of ``INPUTS``.

    Raises:
        MissingInputError: there is no training set.
    """
    require_inputs(run_dir)
    return [hash_file(run_dir / name) for name in INPUTS]


def require_inputs(run_dir: Path) -> None:
    """Raise MissingInputError unless the run has a training set with its statistics."""
    for name in INPUTS:
        if not (run_dir / name).is_file():
            raise MissingInputError(run_dir / name, "the run's training set", "Build the training set first.")


def share_inputs(folder: Path, run_dir: Path, config: RunConfig) -> None:
    """Make ``folder`` a run of its own settings on the rows of ``run_dir``; checkpoints that are there stay.

    Raises:
        MissingInputError: ``run_dir`` has no training set.
    """
    require_inputs(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    drop_inputs(folder)
    for name in INPUTS:
        (folder / name).symlink_to((run_dir / name).absolute())
    write_text(folder / "config.json", config.to_json() + "\n")


def drop_inputs(folder: Path) -> None:
    """Drop the links of a folder whose training is over; a trained model does not need them."""
    for name in INPUTS:
        (folder / name).unlink(missing_ok=True)
