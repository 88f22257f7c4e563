"""Two processes that train the same folder, as when a task outlives what Airflow has given up: never side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from vpoc_ml.errors import WriterBusyError
from vpoc_ml.training.launch import job
from vpoc_ml.training.launch.job import train_run

pytestmark = pytest.mark.slow


def start(run):
    return subprocess.Popen(
        [sys.executable, "-m", "vpoc_ml.training", str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_successor_waits_for_a_training_that_stands_still_then_gives_the_same_bytes(tiny, make_run, monkeypatch):
    settings = {"training__epochs": 3, "training__batch_size": 64, "training__monitor_steps": 10}
    settings |= {"machine__checkpoint_seconds": 0, "training__patience": 1000}
    whole, shared = make_run(tiny, "whole", **settings), make_run(tiny, "shared", **settings)
    train_run(whole)
    ghost = start(shared)
    for _ in range(3):
        ghost.stdout.readline()
    ghost.send_signal(signal.SIGSTOP)  # as a paused container
    before = sorted((shared / "checkpoints").iterdir())
    assert before
    monkeypatch.setattr(job, "GHOST_SECONDS", 0.5)
    with pytest.raises(WriterBusyError, match=f"held by process {ghost.pid} on "):
        train_run(shared)
    successor = start(shared)
    time.sleep(1)
    assert successor.poll() is None
    assert sorted((shared / "checkpoints").iterdir()) == before, "nothing written, swept or pruned"
    os.kill(ghost.pid, signal.SIGKILL)
    output, errors = successor.communicate(timeout=60)
    ghost.communicate()
    assert successor.returncode == 0, errors
    assert '"step": 10,' not in output, "resumed from the checkpoint of the first"
    for name in ("best_model", "final_model"):
        assert (shared / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes()
