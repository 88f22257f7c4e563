"""The GPU's checks on the CPU: they hold there, and each finds what it is for when that is planted."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.hardware import gpu_check
from vpoc_ml.training.hardware.device import smoke_test
from vpoc_ml.training.hardware.gpu_check import CheckFailed, main, run_checks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """No two seconds of repetition."""
    monkeypatch.setattr(gpu_check, "smoke_test", partial(smoke_test, seconds=0))


def test_every_check_holds_on_the_cpu():
    report = run_checks(CPU)
    assert {name: outcome["ok"] for name, outcome in report["checks"].items()} == dict.fromkeys(gpu_check.CHECKS, True)
    assert report["ok"] is True
    assert report["checks"]["no_host_read"]["operations_per_step"] > 50
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("read", [lambda loss: float(loss.sum()), lambda loss: bool((loss > 0).all())])
def test_step_that_reads_a_value_is_found(read, monkeypatch):
    right = Engine.compute_gradient

    def reading(self, *rows):
        batch = right(self, *rows)
        read(batch.losses)
        return batch

    monkeypatch.setattr(Engine, "compute_gradient", reading)
    with pytest.raises(CheckFailed, match="no host read in a step"):
        gpu_check.no_host_read(CPU)


def test_state_that_a_bad_batch_touches_is_found(monkeypatch):
    right = Engine.step

    def unguarded(self, *rows, **rates):
        self.select = False
        right(self, *rows, **rates)

    monkeypatch.setattr(Engine, "step", unguarded)
    with pytest.raises(CheckFailed, match="after a batch of NaN; it changed"):
        gpu_check.bad_batch_changes_nothing(CPU)


def test_bits_that_do_not_repeat_are_found(monkeypatch):
    right = Engine.single_step

    def noisy(self, *arguments):
        record = right(self, *arguments)
        self.state[0, 0] += torch.rand(()).item() * 1e-6
        return record

    torch.seed()
    monkeypatch.setattr("vpoc_ml.training.engines.eager.reseed_dropout", lambda device, seed: None)
    monkeypatch.setattr(Engine, "single_step", noisy)
    with pytest.raises(CheckFailed, match="they differ"):
        gpu_check.repeats(CPU)


def test_failed_check_is_reported_and_the_others_still_run(monkeypatch):
    def fault(device):
        raise RuntimeError("HIP error: memory access fault\nat kernel")

    monkeypatch.setattr(gpu_check, "CHECKS", {"fault": fault, "bad": gpu_check.bad_batch_changes_nothing})
    report = run_checks(CPU)
    assert report["checks"]["fault"] == {
        "ok": False,
        "error": "HIP error: memory access fault",
        "seconds": report["checks"]["fault"]["seconds"],
    }
    assert report["checks"]["bad"]["ok"] is True
    assert report["ok"] is False


def test_script_without_a_gpu_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([]) == 2
    assert "vpoc-ml doctor" in capsys.readouterr().err
