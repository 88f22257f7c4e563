"""What only a GPU can prove. ``pytest -m gpu`` where there is one; skipped elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.training.conftest import plant, write_run

from vpoc_ml.config import MachineConfig
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.hardware import gpu_check
from vpoc_ml.training.hardware.device import choose_device
from vpoc_ml.training.launch.job import train_run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")]


@pytest.mark.parametrize("check", gpu_check.CHECKS.values(), ids=gpu_check.CHECKS)
def test_check_holds(check):
    check(torch.device("cuda", 0))


def test_the_gpu_is_chosen_and_recorded():
    choice = choose_device(MachineConfig(allow_cpu=False))
    assert choice.device.type == "cuda"
    assert choice.report["smoke"]["error"] is None
    assert choice.report["hardware"]["gpus"]


def test_a_run_on_the_gpu_predicts_as_the_run_on_the_cpu(tmp_path):
    planted = plant(40_000)
    settings = {"machine.engine": "eager", "training.epochs": 3}
    runs = {
        device: write_run(tmp_path / device, planted, {**settings, "machine.device": device})
        for device in ("cpu", "cuda")
    }
    results = {device: train_run(run) for device, run in runs.items()}
    assert results["cuda"].device == "cuda:0"
    report = json.loads((runs["cuda"] / "training_config.json").read_text())["device_report"]
    assert report["smoke"]["rounds"] >= 1
    predicted = {device: load_model(run / "best_model.json").predict(planted.raw) for device, run in runs.items()}
    assert np.corrcoef(predicted["cpu"], predicted["cuda"])[0, 1] > 0.99
    assert planted.captured(predicted["cuda"]) > 0.9 * planted.captured(predicted["cpu"])


def test_a_run_on_the_gpu_gives_the_same_bytes_twice_and_resumes(tmp_path):
    planted = plant(20_000)
    settings = {"machine.device": "cuda", "machine.engine": "eager", "training.epochs": 2, "model.dropout": 0.1}
    weights = []
    for name in ("a", "b"):
        run = write_run(tmp_path / name, planted, settings)
        train_run(run)
        weights.append((run / "best_model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert train_run(tmp_path / "a").resumed_from_step > 0
    assert (tmp_path / "a" / "best_model.safetensors").read_bytes() == weights[0]
