"""Checkpoints: everything that a run needs to resume bit for bit, in one file with its own hash."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from vpoc_ml.artifacts.training_files import checkpoint_file, stored_checkpoints
from vpoc_ml.errors import CheckpointError
from vpoc_ml.lake.atomic import write_bytes

FORMAT = "vpoc-ml-checkpoint/3"
KEEP = 2
DELETE = "Delete the file."
LENGTH = 8  # bytes that hold the length of a safetensors header
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and JSON-ready progress. The best weights so far are among the tensors."""

    step: int
    resume_key: str
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``step-<n>.ckpt`` atomically, then drop all but the newest two of this training.

    Checkpoints of other data or settings are removed now and not earlier: until this training has a checkpoint of its
    own, the change of settings may have been a mistake.

    The file is 64 hex digits of SHA-256, a newline, and a safetensors image whose metadata holds the
    progress. The hash detects a flipped byte, which every format for weights loads without an error.
    """
    header = {"format": FORMAT, "step": checkpoint.step, "resume_key": checkpoint.resume_key}
    meta = {"json": json.dumps({**header, "progress": checkpoint.progress})}
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in checkpoint.tensors.items()}
    body = safetensors.torch.save(tensors, metadata=meta)
    path = checkpoint_file(folder, checkpoint.step)
    write_bytes(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    stored = stored_checkpoints(folder)
    own = [each for each in stored if _resume_key(each) == checkpoint.resume_key]
    for stale in set(stored) - set(own[-KEEP:]):
        stale.unlink(missing_ok=True)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        CheckpointError: absent, damaged, or of another format.
        OSError: the file system does not let it be read; the checkpoint may be intact.
    """
    try:
        recorded, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError as error:
        raise CheckpointError(path, "a checkpoint", "none") from error
    found = hashlib.sha256(body).hexdigest()
    if recorded != found.encode():
        raise CheckpointError(path, f"SHA-256 {recorded[:64].decode(errors='replace')}", found, DELETE)
    header = _header(body[LENGTH : LENGTH + _length(body)])
    if header.get("format") != FORMAT:
        raise CheckpointError(path, f"format {FORMAT}", repr(header.get("format")), DELETE)
    return Checkpoint(header["step"], header["resume_key"], safetensors.torch.load(body), header["progress"])


def latest_checkpoint(folder: Path, resume_key: str) -> Checkpoint | None:
    """Return the newest intact checkpoint of this data and configuration; log the reason for each one that is ignored.

    Damaged ones are removed. Those of other data or settings stay until this training saves its own: the change of
    settings may be a mistake, and the device temporary.

    Training is deterministic, so an older checkpoint leads to the same weights as a newer one that is damaged or cannot
    be read.

    Raises:
        OSError: there are checkpoints, and the file system lets none be read that fits. They stay for the next try.
    """
    unreadable: OSError | None = None
    for stray in folder.glob(".step-*.tmp"):
        log.warning("removed %s: a write that was interrupted", stray.name)
        stray.unlink(missing_ok=True)
    for path in reversed(stored_checkpoints(folder)):
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            log.warning("ignored a damaged checkpoint: %s", error)
            path.unlink(missing_ok=True)
            continue
        except OSError as error:
            log.warning("ignored %s, which cannot be read and stays: %s", path.name, error)
            unreadable = unreadable or error
            continue
        if checkpoint.resume_key == resume_key:
            return checkpoint
        log.warning(
            "ignored %s: it belongs to other data, settings or code (%s) and stays until this training saves its own",
            path.name,
            checkpoint.resume_key[:16],
        )
    if unreadable is not None:
        raise unreadable
    return None


def resume_keys(folder: Path) -> set[str]:
    """Return the resume keys of a folder's checkpoints, read from their headers; nothing is verified."""
    return {found for path in stored_checkpoints(folder) if (found := _resume_key(path))}


def _resume_key(path: Path) -> str | None:
    """Return the resume key in a checkpoint's header, None if it cannot be read; the weights are not read."""
    try:
        with path.open("rb") as file:
            file.readline()
            length = min(_length(file.read(LENGTH)), path.stat().st_size)  # a damaged file may state any length
            header = _header(file.read(length))
        return str(header["resume_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _length(start: bytes) -> int:
    """Return the length of a safetensors header in bytes, from the first eight bytes of the image."""
    return int.from_bytes(start[:LENGTH], "little")


def _header(content: bytes) -> dict[str, Any]:
    """Return what ``write_checkpoint`` stored in the metadata of a safetensors header."""
    header: dict[str, Any] = json.loads(json.loads(content)["__metadata__"]["json"])
    return header
