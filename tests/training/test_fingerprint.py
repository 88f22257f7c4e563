"""What checkpoints are tied to: everything that can change a bit of the weights, and nothing else."""

from __future__ import annotations

import pytest

from vpoc_ml.config import TrainingConfig, resolve
from vpoc_ml.training.launch.fingerprint import WITHOUT_EFFECT, fingerprint_of
from vpoc_ml.training.launch.job import train_run

OTHER = {"device": "cuda", "allow_cpu": False, "vram_limit_gib": 8.0, "checkpoint_seconds": 1.0, "ladder": False}
OTHER |= {"threads": 2, "processes": 2, "engine": "eager", "monitor_steps": 50, "seed": 8, "precision": "bf16"}
FAST = {"training__epochs": 2, "training__batch_size": 256, "training__monitor_steps": 4, "model__hidden_dims": (8,)}


def of(overrides=None, inputs=("rows", "statistics"), device="cpu") -> str:
    return fingerprint_of(inputs, resolve("nightly", overrides or {}), device)


@pytest.mark.parametrize("name", OTHER)
def test_settings_count_unless_they_cannot_change_a_bit(name):
    assert (of({f"training.{name}": OTHER[name]}) == of()) == (name in WITHOUT_EFFECT)


def test_data_model_and_device_count_and_the_rest_of_the_run_does_not():
    assert len({of(), of(inputs=("rows", "others")), of({"model.dropout": 0.1}), of(device="cuda")}) == 4
    assert of({"dataset.horizon_minutes": 7}) == of(), "it is in the rows"
    assert set(TrainingConfig.model_fields) >= WITHOUT_EFFECT


def test_more_checkpoints_neither_change_the_weights_nor_begin_anew(tiny, make_run):
    rare = make_run(tiny, "rare", **FAST)
    often = make_run(tiny, "often", **FAST, machine__checkpoint_seconds=0, machine__fallback=False)
    steps = train_run(rare)["steps"]
    train_run(often)
    assert (rare / "best_model.safetensors").read_bytes() == (often / "best_model.safetensors").read_bytes()
    make_run(tiny, "often", **FAST, machine__vram_limit_gib=3)
    assert train_run(often)["resumed_from_step"] == steps
