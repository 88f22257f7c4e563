"""Two processes: together they train as one does; apart each seed trains as it does alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vpoc_ml.config import resolve
from vpoc_ml.config.stored import read_config
from vpoc_ml.errors import DeviceError, InvalidValueError, MachineError, MissingInputError, TrainingUnstableError
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.engines import distributed
from vpoc_ml.training.hardware.device import DeviceChoice
from vpoc_ml.training.launch import processes
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.run_inputs import hash_inputs, share_inputs
from vpoc_ml.training.launch.seed_study import train_seeds
from vpoc_ml.training.launch.subprocess import launch
from vpoc_ml.training.loop.checkpoint import read_checkpoint

SHORT = {
    "training__epochs": 2,
    "training__batch_size": 255,
    "training__warmup_steps": 5,
    "model__hidden_dims": (16,),
}
SHORT |= {"training__loss": "adaptive_huber", "training__gradient_noise": 1e-6, "training__engine": "eager"}


def prediction(run, planted):
    return load_model(run / "best_model.json").predict(planted.raw)


def test_two_processes_train_the_net_that_one_trains_and_hold_the_same_bits(tiny, make_run, monkeypatch, capfd):
    alone = make_run(tiny, "alone", **SHORT)
    train_run(alone)
    together = make_run(tiny, "together", **SHORT, training__processes=2)
    with monkeypatch.context() as keeping:  # the second process's folder stays, to look at its weights
        keeping.setattr(processes.shutil, "rmtree", lambda path, **options: None)
        processes.train_together(together, 2)
    result = json.loads((together / "training_result.json").read_text())
    assert (result["engine"], result["steps"]) == ("distributed", 2 * (2800 // 255))
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2], "one process reports"
    one, two = prediction(alone, tiny), prediction(together, tiny)
    assert np.abs(one - two).max() < 0.02 * one.std(), "sums in another order, and nothing else"
    mine, theirs = (
        read_checkpoint(sorted(folder.glob("checkpoints/*.ckpt"))[-1])
        for folder in (together, together / "processes/1")
    )
    assert mine.step == theirs.step == result["steps"]
    for name in ("state", "step_state", "best"):
        assert torch.equal(mine.tensors[name], theirs.tensors[name]), name


def test_every_process_starts_from_the_same_files(tiny, make_run):
    run = make_run(tiny)
    (run / "checkpoints").mkdir()
    (run / "checkpoints/step-000000000010.ckpt").write_bytes(b"ten")
    (run / "rungs").mkdir()
    (run / "rungs/1-nightly.json").write_text("{}")
    for below in ("processes/7", "seeds/1", "search/trials/a"):
        share_inputs(run / below, run, resolve("nightly"))
    (run / "progress.jsonl").write_text("{}")
    processes._twin(run, run / "processes/1")
    twin = run / "processes/1"
    assert (twin / "checkpoints/step-000000000010.ckpt").read_bytes() == b"ten"
    assert (twin / "training_set.parquet").is_symlink(), "the rows are not copied"
    assert read_config(twin) == read_config(run)
    assert hash_inputs(twin) == hash_inputs(run)
    kept = {"config.json", "training_set.parquet", "feature_statistics.json", "checkpoints", "rungs"}
    assert {path.name for path in twin.iterdir()} == kept, "nothing that links the rows is copied"


@pytest.fixture
def together(monkeypatch):
    """Make this process the first of several; returns a function that sets what the others told."""

    def others(*told):
        def gather(into, own):
            into[:] = [own, *told]

        monkeypatch.setattr(distributed, "world", lambda: 1 + len(told))
        monkeypatch.setattr(distributed.dist, "all_gather_object", gather)

    return others


def test_processes_agree_on_the_device(together):
    gpu = DeviceChoice(torch.device("cuda", 0), "passed the smoke test")
    cpu = DeviceChoice(torch.device("cpu"), "training.device is cpu")
    assert distributed.agreed(gpu) is gpu, "a process alone"
    together(("cuda:1", "passed the smoke test"))
    assert distributed.agreed(gpu) is gpu
    assert distributed.agreed(cpu) is cpu
    together(("cpu", "GPU 1: a float32 product differs"))
    chosen = distributed.agreed(gpu)
    assert (chosen.device.type, chosen.reason) == ("cpu", "process 1 has no card: GPU 1: a float32 product differs")
    together(("cuda:0", "passed the smoke test"))
    with pytest.raises(DeviceError, match=r"training\.processes is 2.*1 of them"):
        distributed.agreed(gpu)


@pytest.mark.parametrize(("card", "backend"), [(False, "gloo"), (True, "cpu:gloo,cuda:nccl")])
def test_backend_serves_whichever_device_is_agreed_on(gpu, backend, monkeypatch):
    """NCCL alone cannot sum what processes hold that train on the CPU of a machine with a card."""
    started = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(distributed.dist, "init_process_group", started.append)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    with distributed.process_group() as rank:
        assert rank == 0
    assert started == [backend]


def test_error_of_a_process_keeps_its_class(tiny, make_run):
    hot = {"training__learning_rate": 10.0, "training__batch_size": 64, "training__monitor_steps": 5}
    hot |= {"training__max_rollbacks": 0, "training__epochs": 5, "training__processes": 2, "training__ladder": False}
    with pytest.raises(TrainingUnstableError, match="at most 0 rollbacks"):
        launch(make_run(tiny, **hot))


def test_seeds_apart_are_the_runs_they_would_be_alone(tiny, make_run):
    fast = {"training__epochs": 1, "training__batch_size": 256, "model__hidden_dims": (8,)}
    alone = make_run(tiny, "alone", **fast, training__seed=2)
    train_run(alone)
    run = make_run(tiny, "run", **fast)
    merged = train_seeds(run, [1, 2, 3], processes=2)
    assert (run / "seeds/2/best_model.safetensors").read_bytes() == (alone / "best_model.safetensors").read_bytes()
    assert merged["seeds"] == [1, 2, 3]
    assert set(merged["validation_losses"]) == {"1", "2", "3"}
    assert merged["best"] == min(merged["validation_losses"], key=merged["validation_losses"].get)
    assert -1 < merged["mean_correlation"] < 1
    assert json.loads((run / "seeds.json").read_text()) == merged
    assert not [path for path in (run / "seeds").rglob("*") if path.is_symlink()], "links go when the seeds are done"
    assert train_seeds(run, [1], processes=1)["seeds"] == [1], "and come back when they are asked for again"


def test_seeds_are_distinct_and_need_a_training_set(tiny, make_run, tmp_path):
    run = make_run(tiny)
    for wrong in ([], [1, 1]):
        with pytest.raises(InvalidValueError, match="distinct"):
            train_seeds(run, wrong, 2)
    (run / "training_set.parquet").unlink()
    with pytest.raises(MissingInputError, match="training set"):
        train_seeds(run, [1], 2)


def test_killed_process_is_the_machines_fault():
    assert type(processes._error(None, -6)) is MachineError
    assert "code 1" in str(processes._error(None, 1))
