"""The files that training reads beside ``config.json``, and run folders that share another run's by links.

The training fingerprint identifies a trained model. The resume key says which checkpoints can be resumed bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vpoc_ml.artifacts.training_files import CONFIG, FEATURE_STATISTICS, REFIT_CHOICES, TRAINING_SET
from vpoc_ml.config import RunConfig
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.plugins.registered import digests

INPUTS = (TRAINING_SET, FEATURE_STATISTICS)


def hash_inputs(run_dir: Path) -> list[str]:
    """Return the SHA-256 of each input of a run, in the order of ``INPUTS``; of a refit also that of its choices.

    Raises:
        MissingInputError: there is no training set.
    """
    require_inputs(run_dir)
    own = [REFIT_CHOICES] if (run_dir / REFIT_CHOICES).is_file() else []
    return [hash_file(run_dir / name) for name in (*INPUTS, *own)]


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
    write_text(folder / CONFIG, config.to_json() + "\n")


def drop_inputs(folder: Path) -> None:
    """Drop the links of a folder whose training is over; a trained model does not need them."""
    for name in INPUTS:
        (folder / name).unlink(missing_ok=True)


PRODUCER = "vpoc_ml.training.launch.fit"
"""The module that computes the weights. It imports neither the hardware checks nor the fallback presets."""


def run_fingerprint(run_dir: Path, config: RunConfig) -> str:
    """Return the training fingerprint of the run in ``run_dir``.

    Raises:
        MissingInputError: the run has no training set.
    """
    return training_fingerprint(hash_inputs(run_dir), config)


def training_fingerprint(inputs: Sequence[str], config: RunConfig) -> str:
    """Return what identifies a trained model: data, settings, code and versions of its libraries, in 16 hex digits.

    Settings of the section ``machine`` do not count: on another machine the last bits of the weights may differ, and
    the model is still the one that was required.

    Args:
        inputs: hashes of the training set and its statistics, see ``run_inputs.hash_inputs``.
        config: sections ``model`` and ``training`` count.
    """
    own = digests("models", config.model.own).values()
    return _digest(*inputs, config.digest("model", "training"), code_digest(PRODUCER), *own)


def resume_key(fingerprint: str, config: RunConfig, device: str) -> str:
    """Return what a checkpoint must have to be resumed bit for bit: the fingerprint and what computes the bits.

    Args:
        fingerprint: the training fingerprint.
        config: engine and threads of section ``machine`` count.
        device: type of the device, ``cpu`` or ``cuda``.
    """
    return _digest(fingerprint, device, config.machine.engine, str(config.machine.threads))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
