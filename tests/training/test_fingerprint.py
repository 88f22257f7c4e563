"""The training fingerprint holds everything that identifies a model; the resume key adds what computes the bits."""

from __future__ import annotations

import pytest

from vpoc_ml.config import MachineConfig, resolve
from vpoc_ml.training.launch import run_inputs
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.run_inputs import resume_key, training_fingerprint

MACHINE = {"device": "cuda", "allow_cpu": False, "vram_limit_gib": 8.0, "checkpoint_seconds": 1.0, "fallback": False}
MACHINE |= {"threads": 2, "engine": "eager", "chunk_rows": 1000, "docs_limit": 5, "processes": 3}
TRAINING = {"monitor_steps": 50, "seed": 8, "precision": "bf16", "learning_rate": 1e-3}
FAST = {"training__epochs": 2, "training__batch_size": 256, "training__monitor_steps": 4, "model__hidden_dims": (8,)}


def of(overrides=None, inputs=("rows", "statistics")) -> str:
    return training_fingerprint(inputs, resolve("nightly", overrides or {}))


def key(overrides=None, device="cpu") -> str:
    return resume_key("same", resolve("nightly", overrides or {}), device)


@pytest.mark.parametrize("name", MachineConfig.model_fields)
def test_machine_settings_retrain_no_model(name):
    changed = {f"machine.{name}": MACHINE[name]}
    assert of(changed) == of()
    assert resolve("nightly", changed).digest() == resolve("nightly").digest()


@pytest.mark.parametrize("name", MachineConfig.model_fields)
def test_a_checkpoint_is_resumed_only_by_what_computes_the_same_bits(name):
    assert (key({f"machine.{name}": MACHINE[name]}) == key()) == (name not in ("engine", "threads"))
    assert key(device="cuda") != key()


@pytest.mark.parametrize("name", TRAINING)
def test_training_settings_change_the_fingerprint(name):
    assert of({f"training.{name}": TRAINING[name]}) != of()


def test_data_and_model_settings_change_the_fingerprint():
    assert len({of(), of(inputs=("rows", "others")), of({"model.dropout": 0.1})}) == 3
    assert of({"dataset.horizon": "7m"}) == of(), "it is in the rows"


def test_when_the_model_is_refitted_is_no_part_of_it():
    assert of({"training.refit": "nightly"}) == of(), "it chooses the rows"


def test_the_code_that_trains_changes_the_fingerprint(monkeypatch):
    before = of()
    monkeypatch.setattr(run_inputs, "code_digest", lambda module: "other code or other libraries")
    assert of() != before


def test_more_checkpoints_neither_change_the_weights_nor_start_again(tiny, make_run):
    rare = make_run(tiny, "rare", **FAST)
    often = make_run(tiny, "often", **FAST, machine__checkpoint_seconds=0, machine__fallback=False)
    steps = train_run(rare).steps
    train_run(often)
    assert (rare / "best_model.safetensors").read_bytes() == (often / "best_model.safetensors").read_bytes()
    make_run(tiny, "often", **FAST, machine__vram_limit_gib=3)
    assert train_run(often).resumed_from_step == steps
