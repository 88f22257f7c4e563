"""Checkpoint files: round trip, damage, other runs, stray temporary files."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import torch

from vpoc_ml.errors import CheckpointError
from vpoc_ml.training.loop.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    read_checkpoint,
    resume_keys,
    write_checkpoint,
)


def checkpoint(step: int, resume_key: str = "mine") -> Checkpoint:
    tensors = {"state": torch.full((4, 9), float(step)), "updates": torch.tensor(float(step))}
    return Checkpoint(step, resume_key, tensors, {"history": [0.1, 0.2], "best": None})


def test_round_trip_is_exact(tmp_path):
    written = checkpoint(7)
    found = read_checkpoint(write_checkpoint(tmp_path, written))
    assert (found.step, found.resume_key, found.progress) == (7, "mine", written.progress)
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


def test_checkpoint_that_cannot_be_read_stays_for_the_next_try(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, checkpoint(1))
    write_checkpoint(tmp_path, checkpoint(2))

    def fail(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        with pytest.raises(OSError, match="Input/output error"):
            latest_checkpoint(tmp_path, "mine")
    found = latest_checkpoint(tmp_path, "mine")
    assert found is not None
    assert found.step == 2


def test_older_checkpoint_is_used_while_the_newest_cannot_be_read(tmp_path, monkeypatch, caplog):
    write_checkpoint(tmp_path, checkpoint(1))
    newest = write_checkpoint(tmp_path, checkpoint(2))
    read = Path.read_bytes

    def fail(path):
        if path == newest:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with caplog.at_level(logging.WARNING):
        found = latest_checkpoint(tmp_path, "mine")
    assert found is not None
    assert found.step == 1
    assert newest.is_file()
    assert f"ignored {newest.name}, which cannot be read" in caplog.text


def test_absent_checkpoint_is_an_error_of_its_own(tmp_path):
    with pytest.raises(CheckpointError, match="expected a checkpoint; found none"):
        read_checkpoint(tmp_path / "step-000000000001.ckpt")


def test_checkpoint_of_other_data_is_ignored_with_the_reason(tmp_path, caplog):
    write_checkpoint(tmp_path, checkpoint(50, resume_key="other"))
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path, "mine") is None
    assert "other data, settings or code" in caplog.text


def test_checkpoints_of_others_stay_until_a_training_saves_its_own(tmp_path):
    """Looking costs nothing: the settings may have been a slip, the device a stopgap."""
    for step in (40, 50):
        write_checkpoint(tmp_path, checkpoint(step, resume_key="other"))
    assert latest_checkpoint(tmp_path, "mine") is None
    found = latest_checkpoint(tmp_path, "other")
    assert found is not None
    assert found.step == 50
    write_checkpoint(tmp_path, checkpoint(10))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000010.ckpt"], "not crowded out by later steps"
    write_checkpoint(tmp_path, checkpoint(20))
    assert len(list(tmp_path.iterdir())) == 2


def test_resume_keys_are_read_from_headers_and_damage_has_none(tmp_path):
    write_checkpoint(tmp_path, checkpoint(1))
    path = write_checkpoint(tmp_path, checkpoint(2))
    assert resume_keys(tmp_path) == {"mine"}
    whole = path.read_bytes()
    first = tmp_path / "step-000000000001.ckpt"
    for damaged in (b"", whole[:70], whole[:65] + b"\xff" * 8 + whole[73:], whole[:73] + b"[]" + whole[75:]):
        first.write_bytes(damaged)
        assert resume_keys(tmp_path) == {"mine"}
    path.unlink()
    assert resume_keys(tmp_path) == set()


def test_interrupted_writes_are_swept(tmp_path):
    stray = tmp_path / ".step-000000000003.ckpt.abc.tmp"
    stray.write_bytes(b"half")
    assert latest_checkpoint(tmp_path, "mine") is None
    assert not stray.exists()
