"""The ladder: which rungs, what each keeps, what is left on disk, and where a restarted run goes on."""

from __future__ import annotations

import json

import pytest

from vpoc_ml import config
from vpoc_ml.errors import TrainingUnstableError
from vpoc_ml.training.launch import fallback, job
from vpoc_ml.training.launch.job import train_run

HOT = {"training__learning_rate": 10.0, "training__batch_size": 64, "training__monitor_steps": 5}
HOT |= {"training__max_rollbacks": 0, "training__epochs": 5, "training__gradient_clip": 1000.0}


def short(monkeypatch, **settings):
    """Cut the presets of the ladder to a fraction of a second."""
    for name in fallback.FALLBACK_PRESETS:
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
def test_rungs_below_the_asked_recipe(preset, names):
    assert [rung.preset for rung in fallback.fallback_configs(config.preset(preset))] == names


def test_a_rung_keeps_the_data_and_the_machine_and_takes_net_and_rates():
    asked = config.resolve("nightly", {"training.seed": 5, "machine.threads": 2, "dataset.horizon_minutes": 7})
    below = fallback.fallback_configs(asked)
    assert (below[1].model.hidden_dims, below[1].training.learning_rate) == ((128, 64, 32), 8e-5)
    assert [rung.training.learning_rate for rung in below[2:]] == [5e-5, 1e-5]
    for rung in below[1:]:
        assert (rung.training.seed, rung.machine.threads, rung.dataset, rung.features) == (
            5, 2, asked.dataset, asked.features
        )  # fmt: skip
    assert fallback.fallback_configs(config.resolve("nightly", {"machine.fallback": False}))[1:] == []


def test_threads_belong_to_the_machine_and_precision_to_the_preset():
    asked = config.resolve("nightly", {"machine.threads": 2, "training.precision": "fp16"})
    assert [(rung.machine.threads, rung.training.precision) for rung in fallback.fallback_configs(asked)] == [
        (2, "fp16"), (2, "fp32"), (2, "fp32"), (2, "fp32")
    ]  # fmt: skip


def test_an_unstable_recipe_steps_down_and_leaves_its_record(tiny, make_run, monkeypatch):
    short(monkeypatch)
    run = make_run(tiny, **HOT)
    result = train_run(run)
    assert result["rung"] == "medium"
    assert [record["rung"] for record in result["rungs"]] == ["nightly"]
    assert "at most 0 rollbacks" in result["rungs"][0]["error"]
    record = json.loads((run / "rungs" / "1-nightly.json").read_text())
    assert (record["rollbacks"], record["training"]["learning_rate"]) == (1, 10.0)
    lines = (run / "rungs" / "1-nightly.progress.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == record["steps"] > 0
    described = json.loads((run / "training_config.json").read_text())
    assert described["training"]["learning_rate"] == 8e-5
    assert json.loads((run / "best_model.json").read_text())["model"]["hidden_dims"] == [8]
    steps = [json.loads(line)["step"] for line in (run / "progress.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "the file holds the rung that held, and nothing else"
    assert "preset nightly gave up" in (run / "training_log.txt").read_text()


def test_the_device_is_chosen_once_for_all_rungs(tiny, make_run, monkeypatch):
    """What the first rung leaves in torch's cache would look like somebody else's memory to the second."""
    short(monkeypatch)
    asked, choose = [], job.choose_device
    monkeypatch.setattr(job, "choose_device", lambda *rest, **more: asked.append(1) or choose(*rest, **more))
    result = train_run(make_run(tiny, **HOT))
    assert (result["rung"], len(asked)) == ("medium", 1)


def test_a_restarted_run_goes_on_with_the_rung_it_had_reached(tiny, make_run, monkeypatch):
    short(monkeypatch)
    run = make_run(tiny, **HOT)
    first = train_run(run)
    tried = []
    honest = job._train
    monkeypatch.setattr(
        job, "_train", lambda folder, rung, *rest: tried.append(rung.preset) or honest(folder, rung, *rest)
    )
    again = train_run(run)
    assert tried == ["medium"]
    assert again["resumed_from_step"] == first["steps"]
    assert again["rungs"] == first["rungs"]


def test_a_record_of_other_data_is_not_believed(tiny, planter, make_run, monkeypatch):
    short(monkeypatch)
    run = make_run(tiny, **HOT)
    train_run(run)
    make_run(planter(4_000, seed=8), **HOT)
    tried = []
    honest = job._train
    monkeypatch.setattr(
        job, "_train", lambda folder, rung, *rest: tried.append(rung.preset) or honest(folder, rung, *rest)
    )
    assert train_run(run)["rung"] == "medium"
    assert tried == ["nightly", "medium"]


def test_when_no_rung_holds_all_are_named(tiny, make_run, monkeypatch):
    monkeypatch.setattr("vpoc_ml.models.guard.Guard.forward", lambda self, values: values.float() * float("nan"))
    short(monkeypatch, monitor_steps=5, max_rollbacks=0)
    run = make_run(tiny, **HOT)
    with pytest.raises(
        TrainingUnstableError, match=r"nightly: .*medium: .*conservative: .*conservative-1e-5: "
    ) as caught:
        train_run(run)
    assert caught.value.exit_code == 4
    assert len(list((run / "rungs").glob("*.json"))) == 4
