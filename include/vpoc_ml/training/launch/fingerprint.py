"""What ties checkpoints and records of a run to what computed them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch

from vpoc_ml.config import RunConfig


def fingerprint_of(inputs: Sequence[str], config: RunConfig, device: str) -> str:
    """Return the SHA-256 over data, settings and what computes the bits; equal ones lead to the same weights.

    Args:
        inputs: hashes of the run's inputs, see ``inputs.hash_inputs``.
        config: sections ``model`` and ``training`` count.
        device: type of the device, ``cpu`` or ``cuda``.
    """
    settings = config.model_dump(mode="json", include={"model", "training"})
    parts = [*inputs, json.dumps(settings, sort_keys=True), str(torch.__version__), device]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
