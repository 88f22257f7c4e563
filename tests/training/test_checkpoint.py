"""Checkpoint files: round trip, damage, other runs, stray temporary files."""

from __future__ import annotations

import logging

import pytest
import torch

from vpoc_ml.errors import CheckpointError
from vpoc_ml.training.checkpoint import Checkpoint, latest_checkpoint, read_checkpoint, write_checkpoint


def checkpoint(step: int, fingerprint: str = "mine") -> Checkpoint:
    tensors = {"state": torch.full((4, 9), float(step)), "updates": torch.tensor(float(step))}
    return Checkpoint(step, fingerprint, tensors, {"history": [0.1, 0.2], "best": None})


def test_round_trip_is_exact(tmp_path):
    written = checkpoint(7)
    found = read_checkpoint(write_checkpoint(tmp_path, written))
    assert (found.step, found.fingerprint, found.progress) == (7, "mine", written.progress)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in written.tensors.items())


def test_only_the_newest_two_are_kept(tmp_path):
    for step in (1, 2, 10, 9):
        write_checkpoint(tmp_path, checkpoint(step))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000000009.ckpt", "step-000000000010.ckpt"]


def test_every_flipped_byte_is_detected(tmp_path):
    path = write_checkpoint(tmp_path, checkpoint(1))
    intact = path.read_bytes()
    for position in range(0, len(intact), 7):
        damaged = bytearray(intact)
        damaged[position] ^= 4
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    path.write_bytes(intact[: len(intact) // 2])
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_checkpoint(path)


def test_damaged_newest_falls_back_to_the_one_before_and_says_so(tmp_path, caplog):
    write_checkpoint(tmp_path, checkpoint(1))
    newest = write_checkpoint(tmp_path, checkpoint(2))
    newest.write_bytes(newest.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        found = latest_checkpoint(tmp_path, "mine")
    assert found is not None
    assert found.step == 1
    assert "damaged" in caplog.text


def test_checkpoint_of_other_data_is_ignored_with_the_reason(tmp_path, caplog):
    write_checkpoint(tmp_path, checkpoint(50, fingerprint="other"))
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path, "mine") is None
    assert "other data or settings" in caplog.text


def test_interrupted_writes_are_swept(tmp_path):
    stray = tmp_path / ".step-000000000003.ckpt.abc.tmp"
    stray.write_bytes(b"half")
    assert latest_checkpoint(tmp_path, "mine") is None
    assert not stray.exists()
