"""Fallback presets: which ones, what each keeps, what is left on disk, and where a restarted run continues."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vpoc_ml import config
from vpoc_ml.dataset.targets import KINDS, fit_target
from vpoc_ml.errors import TrainingUnstableError
from vpoc_ml.training.launch import job
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop.objective import Objective

HOT = {"training__learning_rate": 10.0, "training__batch_size": 64, "training__monitor_steps": 5}
HOT |= {"training__max_rollbacks": 0, "training__epochs": 5, "training__gradient_clip": 1000.0}


def short(monkeypatch, **settings):
    """Cut the fallback presets to a fraction of a second."""
    for name in job.FALLBACK_PRESETS:
        whole = config.preset(name)
        quick = whole.training.model_copy(update={"epochs": 1, "batch_size": 256, **settings})
        model = whole.model.model_copy(update={"hidden_dims": (8,)})
        changed = whole.model_copy(update={"training": quick, "model": model})
        monkeypatch.setitem(config.PRESETS, name, lambda changed=changed: changed)


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        ("ambitious", ["ambitious", "medium", "conservative", "conservative-1e-5"]),
        ("medium", ["medium", "conservative", "conservative-1e-5"]),
        ("conservative", ["conservative", "conservative-1e-5"]),
        ("nightly", ["nightly", "medium", "conservative", "conservative-1e-5"]),
    ],
)
def test_fallback_presets_follow_the_run_s_own(preset, names):
    assert [each.preset for each in job.fallback_configs(config.preset(preset))] == names


def test_a_fallback_preset_keeps_data_and_machine_and_brings_network_and_rates():
    own = config.resolve("nightly", {"training.seed": 5, "machine.threads": 2, "dataset.horizon": "7m"})
    below = job.fallback_configs(own)
    assert (below[1].model.hidden_dims, below[1].training.learning_rate) == ((128, 64, 32), 8e-5)
    assert [each.training.learning_rate for each in below[2:]] == [5e-5, 1e-5]
    for each in below[1:]:
        assert (each.training.seed, each.machine.threads, each.dataset, each.features) == (
            5, 2, own.dataset, own.features
        )  # fmt: skip
    assert job.fallback_configs(config.resolve("nightly", {"machine.fallback": False}))[1:] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_fallback_preset_has_a_loss_of_the_target(kind):
    target = fit_target(kind, np.random.default_rng(3).normal(0, 1e-4, 500), np.full(500, 1e-4))
    presets = job.fallback_configs(config.resolve("medium", {"dataset.target": kind}))
    assert [Objective.of(each.training, target).kind for each in presets[1:]] == [
        "adaptive_huber" if target.loss == "huber" else target.loss
    ] * 2


def test_threads_belong_to_the_machine_and_precision_to_the_preset():
    own = config.resolve("nightly", {"machine.threads": 2, "training.precision": "fp16"})
    assert [(each.machine.threads, each.training.precision) for each in job.fallback_configs(own)] == [
        (2, "fp16"), (2, "fp32"), (2, "fp32"), (2, "fp32")
    ]  # fmt: skip


def test_an_unstable_preset_falls_back_and_leaves_its_record(tiny, make_run, monkeypatch):
    short(monkeypatch)
    run = make_run(tiny, **HOT)
    result = train_run(run)
    assert result.preset == "medium"
    assert [failed.preset for failed in result.failed_presets] == ["nightly"]
    assert "at most 0 rollbacks" in result.failed_presets[0].error
    record = json.loads((run / "fallback" / "1-nightly.json").read_text())
    assert (record["rollbacks"], record["training"]["learning_rate"]) == (1, 10.0)
    lines = (run / "fallback" / "1-nightly.progress.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == record["steps"] > 0
    described = json.loads((run / "training_config.json").read_text())
    assert described["training"]["learning_rate"] == 8e-5
    assert json.loads((run / "best_model.json").read_text())["model"]["hidden_dims"] == [8]
    steps = [json.loads(line)["step"] for line in (run / "progress.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "the file holds the preset that was stable, and nothing else"
    assert "training is unstable with preset nightly" in (run / "training_log.txt").read_text()


def test_the_device_is_chosen_once_for_all_presets(tiny, make_run, monkeypatch):
    """Memory that torch caches after the first preset would look like that of another process."""
    short(monkeypatch)
    calls, choose = [], job.choose_device
    monkeypatch.setattr(job, "choose_device", lambda *rest, **more: calls.append(1) or choose(*rest, **more))
    result = train_run(make_run(tiny, **HOT))
    assert (result.preset, len(calls)) == ("medium", 1)


def test_a_restarted_run_continues_with_the_preset_it_had_reached(tiny, make_run, monkeypatch):
    short(monkeypatch)
    run = make_run(tiny, **HOT)
    first = train_run(run)
    tried = []
    fit = job.fit_run
    monkeypatch.setattr(
        job, "fit_run", lambda folder, config, *rest: tried.append(config.preset) or fit(folder, config, *rest)
    )
    again = train_run(run)
    assert tried == ["medium"]
    assert again.resumed_from_step == first.steps
    assert again.failed_presets == first.failed_presets


def test_a_record_of_other_data_does_not_count(tiny, planter, make_run, monkeypatch):
    short(monkeypatch)
    run = make_run(tiny, **HOT)
    train_run(run)
    make_run(planter(4_000, seed=8), **HOT)
    tried = []
    fit = job.fit_run
    monkeypatch.setattr(
        job, "fit_run", lambda folder, config, *rest: tried.append(config.preset) or fit(folder, config, *rest)
    )
    assert train_run(run).preset == "medium"
    assert tried == ["nightly", "medium"]


def test_the_error_names_every_preset_if_all_are_unstable(tiny, make_run, monkeypatch):
    monkeypatch.setattr("vpoc_ml.models.guard.Guard.forward", lambda self, values: values.float() * float("nan"))
    short(monkeypatch, monitor_steps=5, max_rollbacks=0)
    run = make_run(tiny, **HOT)
    with pytest.raises(
        TrainingUnstableError, match=r"nightly: .*medium: .*conservative: .*conservative-1e-5: "
    ) as caught:
        train_run(run)
    assert caught.value.exit_code == 4
    assert len(list((run / "fallback").glob("*.json"))) == 4
