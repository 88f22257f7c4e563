"""Checkpoints: everything a run needs to go on bit for bit, in one file that knows its own hash."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from vpoc_ml.errors import CheckpointError
from vpoc_ml.lake.atomic import write_bytes

FORMAT = "vpoc-ml-checkpoint/2"
KEEP = 2
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and JSON-ready progress. The best weights so far are among the tensors."""

    step: int
    fingerprint: str
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``step-<n>.ckpt`` atomically, then drop all but the newest two.

    The file is 64 hex digits of SHA-256, a newline, and a safetensors image whose metadata holds the
    progress. Own hash, because one flipped byte loads silently in every format for weights.
    """
    header = {"format": FORMAT, "step": checkpoint.step, "fingerprint": checkpoint.fingerprint}
    meta = {"json": json.dumps({**header, "progress": checkpoint.progress})}
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in checkpoint.tensors.items()}
    body = safetensors.torch.save(tensors, metadata=meta)
    path = folder / f"step-{checkpoint.step:012d}.ckpt"
    write_bytes(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    for stale in sorted(folder.glob("step-*.ckpt"))[:-KEEP]:
        stale.unlink(missing_ok=True)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        CheckpointError: unreadable, damaged, or of another format.
    """
    try:
        recorded, _, body = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: expected a checkpoint; cannot read it ({error.strerror}).") from error
    found = hashlib.sha256(body).hexdigest()
    if recorded != found.encode():
        raise CheckpointError(
            f"{path}: expected SHA-256 {recorded[:64].decode(errors='replace')}; found {found}. Delete the file."
        )
    length = int.from_bytes(body[:8], "little")
    header = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["json"])
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}; found {header.get('format')!r}. Delete the file.")
    return Checkpoint(header["step"], header["fingerprint"], safetensors.torch.load(body), header["progress"])


def latest_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """Return the newest intact checkpoint of this data and configuration; say why others are passed over.

    Training is deterministic, so an older checkpoint leads to the same weights as a damaged newer one.
    """
    for stray in folder.glob(".step-*.tmp"):
        log.warning("removed %s: a write that was interrupted", stray.name)
        stray.unlink(missing_ok=True)
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            log.warning("ignored a damaged checkpoint: %s", error)
            path.unlink(missing_ok=True)
            continue
        if checkpoint.fingerprint == fingerprint:
            return checkpoint
        log.warning("ignored %s: it belongs to other data or settings (%s)", path.name, checkpoint.fingerprint[:16])
        path.unlink(missing_ok=True)
    return None
