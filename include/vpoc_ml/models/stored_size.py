"""Checks of a stored model's size and shapes before memory is allocated for it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import CheckpointError
from vpoc_ml.models.build import build_model

MAX_JSON_BYTES = 16 * 1024**2
MAX_WEIGHTS_BYTES = 2 * 1024**3
MAX_INPUTS = 100_000
TRAIN_AGAIN = "Train again."
_LENGTH = struct.Struct("<Q")  # a safetensors file begins with the length of its JSON header
Shapes = dict[str, tuple[int, ...]]


def require_at_most(path: Path, limit: int) -> int:
    """Return the size of ``path`` in bytes.

    Raises:
        CheckpointError: the file is missing or larger than ``limit`` bytes.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(path, "a model file", f"none: cannot read it ({error.strerror})") from error
    if size > limit:
        raise CheckpointError(path, f"at most {limit:,} bytes", f"{size:,}", TRAIN_AGAIN)
    return size


def stored_shapes(path: Path) -> Shapes:
    """Return name and shape of every tensor of a safetensors file. Only its header is read.

    Raises:
        CheckpointError: the file is missing, too large or truncated, or has no valid header.
    """
    size = require_at_most(path, MAX_WEIGHTS_BYTES)
    with path.open("rb") as stream:
        start = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else size
        if length > min(size - _LENGTH.size, MAX_JSON_BYTES):
            raise CheckpointError(path, f"a header within {size:,} bytes", f"{length:,}", TRAIN_AGAIN)
        header = stream.read(length)
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        expected = _LENGTH.size + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise CheckpointError(path, "a safetensors header", f"something else ({error})") from error
    if expected != size:
        raise CheckpointError(path, f"{expected:,} bytes by its header", f"{size:,}", TRAIN_AGAIN)
    return shapes


def require_same_shapes(path: Path, config: ModelConfig, statistics: NetworkInputs, stored: Shapes) -> None:
    """Compare the network that ``config`` and ``statistics`` describe with the tensors of a weights' file.

    The network is built on torch's meta device, without memory for its weights, so no dimension is too large.

    Raises:
        CheckpointError: they differ; the error names the first different tensor.
    """
    layers, inputs = len(config.hidden_dims), len(statistics.features)
    if layers > len(stored) or inputs > MAX_INPUTS:
        raise CheckpointError(
            path, f"at most {len(stored)} layers and {MAX_INPUTS:,} inputs", f"{layers:,} and {inputs:,}"
        )
    with torch.device("meta"):
        named = build_model(config, statistics).state_dict()
    described = {name: tuple(tensor.shape) for name, tensor in named.items()}
    for name in sorted(described.keys() | stored.keys()):
        if described.get(name) != stored.get(name):
            found = f"{described.get(name)} in the network it names"
            raise CheckpointError(path, f"tensor {name} of shape {stored.get(name)}", found)
