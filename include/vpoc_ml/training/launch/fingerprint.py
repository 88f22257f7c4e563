"""What ties checkpoints and records of a run to what computed them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch

from vpoc_ml.config import RunConfig

# Settings of ``training`` that cannot change a bit of the weights: which device is taken is in the fingerprint as the
# device itself, a checkpoint is written between two windows and draws nothing, and the ladder acts when training
# has given up. Threads, processes, engine and the monitor's steps do change bits.
WITHOUT_EFFECT = frozenset({"device", "allow_cpu", "vram_limit_gib", "checkpoint_seconds", "ladder"})


def fingerprint_of(inputs: Sequence[str], config: RunConfig, device: str) -> str:
    """Return the SHA-256 over data, settings and what computes the bits; equal ones lead to the same weights.

    Args:
        inputs: hashes of the run's inputs, see ``inputs.hash_inputs``.
        config: sections ``model`` and ``training`` count.
        device: type of the device, ``cpu`` or ``cuda``.
    """
    training = config.training.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    settings = {"model": config.model.model_dump(mode="json"), "training": training}
    parts = [*inputs, json.dumps(settings, sort_keys=True), str(torch.__version__), device]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
