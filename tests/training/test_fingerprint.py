"""What checkpoints are tied to: everything that can change a bit of the weights, and nothing else."""

from __future__ import annotations

import pytest

from vpoc_ml.config import MachineConfig, resolve
from vpoc_ml.training.launch.fingerprint import fingerprint_of
from vpoc_ml.training.launch.job import train_run

MACHINE = {"device": "cuda", "allow_cpu": False, "vram_limit_gib": 8.0, "checkpoint_seconds": 1.0, "fallback": False}
MACHINE |= {"threads": 2, "engine": "eager", "chunk_rows": 1000, "docs_limit": 5}
TRAINING = {"monitor_steps": 50, "seed": 8, "precision": "bf16", "learning_rate": 1e-3}
FAST = {"training__epochs": 2, "training__batch_size": 256, "training__monitor_steps": 4, "model__hidden_dims": (8,)}


def of(overrides=None, inputs=("rows", "statistics"), device="cpu") -> str:
    return fingerprint_of(inputs, resolve("nightly", overrides or {}), device)


@pytest.mark.parametrize("name", MachineConfig.model_fields)
def test_settings_of_the_machine_change_no_hash(name):
    changed = {f"machine.{name}": MACHINE[name]}
    assert of(changed) == of()
    assert resolve("nightly", changed).digest() == resolve("nightly").digest()


@pytest.mark.parametrize("name", TRAINING)
def test_settings_of_the_training_change_the_fingerprint(name):
    assert of({f"training.{name}": TRAINING[name]}) != of()


def test_data_model_and_device_count_and_the_rest_of_the_run_does_not():
    assert len({of(), of(inputs=("rows", "others")), of({"model.dropout": 0.1}), of(device="cuda")}) == 4
    assert of({"dataset.horizon_minutes": 7}) == of(), "it is in the rows"


def test_more_checkpoints_neither_change_the_weights_nor_begin_anew(tiny, make_run):
    rare = make_run(tiny, "rare", **FAST)
    often = make_run(tiny, "often", **FAST, machine__checkpoint_seconds=0, machine__fallback=False)
    steps = train_run(rare)["steps"]
    train_run(often)
    assert (rare / "best_model.safetensors").read_bytes() == (often / "best_model.safetensors").read_bytes()
    make_run(tiny, "often", **FAST, machine__vram_limit_gib=3)
    assert train_run(often)["resumed_from_step"] == steps
