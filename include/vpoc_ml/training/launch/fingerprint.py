"""The training fingerprint, which identifies a trained model, and the key of what may be resumed bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vpoc_ml.config import RunConfig
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.training.launch.run_inputs import hash_inputs

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
    return _digest(*inputs, config.digest("model", "training"), code_digest(PRODUCER))


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
