"""The training task: which checkpoint a retry resumes, and which errors keep their retries."""

from __future__ import annotations

import os
import threading
import time

import pytest
from airflow.sdk.exceptions import AirflowFailException

from vpoc_airflow import stage_tasks
from vpoc_airflow import train as training
from vpoc_ml import pipeline
from vpoc_ml.artifacts.training_progress import EpochRecord, WindowRecord
from vpoc_ml.config import RunConfig, change
from vpoc_ml.errors import GpuBusyError, MachineError, MissingInputError, TrainingUnstableError
from vpoc_ml.training.launch.run_inputs import run_fingerprint

EPOCH = {"kind": "epoch", "epoch": 3, "epochs_total": 12, "train_loss": 0.0206, "validation_loss": 0.0203}
EPOCH |= {"validation_constant": 0.0204, "best": True, "lr": 0.00351, "rows": 98_304, "seconds": 8.0}


class Store(dict):
    """The task's state store as far as the training task uses it."""

    def get(self, key, default=None):
        return super().get(key, default)

    def set(self, key, value):
        self[key] = value

    def delete(self, key):
        del self[key]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder; the pipeline's train writes one checkpoint and reports one epoch."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(RunConfig().to_json())
    (tmp_path / "training_set.parquet").write_bytes(b"rows")
    (tmp_path / "feature_statistics.json").write_text("{}")

    def call(name, *, on_progress):
        (tmp_path / "checkpoints" / "step-000000000010.ckpt").write_bytes(b"weights")
        on_progress(WindowRecord(step=5))
        on_progress(EpochRecord.model_validate(EPOCH))
        return {"epochs": 1}

    monkeypatch.setattr(stage_tasks, "current_run", lambda: "night")
    monkeypatch.setattr(stage_tasks, "run_dir", lambda run: tmp_path)
    monkeypatch.setattr(stage_tasks, "call", call)
    return tmp_path


def test_pointer_of_the_newest_checkpoint_survives_the_task(folder):
    store = Store()
    assert training.train(store) == {"epochs": 1}
    assert store[training.KEY]["epoch"] == 3
    assert store[training.KEY]["path"].endswith("step-000000000010.ckpt")
    assert store[training.KEY]["fingerprint"] == run_fingerprint(folder, RunConfig())


def test_the_pointer_names_the_checkpoint_of_the_last_step_whatever_the_file_times(folder):
    tomorrow = time.time() + 86_400
    for name in ("step-000000000009.ckpt", ".step-000000000020.ckpt.x.tmp", "notes.txt"):  # before the clock went back
        file = folder / "checkpoints" / name
        file.write_bytes(b"older")
        os.utime(file, (tomorrow, tomorrow))
    store = Store()
    training.train(store)
    assert store[training.KEY]["path"] == str(folder / "checkpoints" / "step-000000000010.ckpt")


def test_a_retry_resumes_only_a_checkpoint_of_the_same_settings_and_data(folder, caplog):
    store = Store()
    training.train(store)
    caplog.set_level("INFO")
    training.train(store)
    assert "Checkpoint after epoch 3 found" in caplog.text
    other_settings = change(RunConfig(), {"training.seed": RunConfig().training.seed + 1}).to_json()
    for name, content in (("config.json", other_settings), ("training_set.parquet", "other rows")):
        caplog.clear()
        (folder / name).write_text(content)
        training.train(store)
        assert "the checkpoint" in caplog.text
        assert "is not used" in caplog.text
        assert "Resuming" not in caplog.text


def test_a_changed_machine_setting_keeps_the_checkpoint(folder, caplog):
    store = Store()
    training.train(store)
    (folder / "config.json").write_text(change(RunConfig(), {"machine.checkpoint_seconds": 7}).to_json())
    caplog.set_level("INFO")
    training.train(store)
    assert "Checkpoint after epoch 3 found" in caplog.text
    assert "is not used" not in caplog.text


@pytest.mark.parametrize("missing", ["training_set.parquet", "config.json"])
def test_a_missing_input_is_left_to_the_stage_and_the_checkpoint_stays(folder, monkeypatch, caplog, missing):
    store, calls = Store(), []
    training.train(store)
    before = dict(store)
    (folder / missing).unlink()

    def call(name, *, on_progress):
        calls.append(name)
        raise MissingInputError(folder / missing, "an input of training", "Assemble it first.")

    monkeypatch.setattr(stage_tasks, "call", call)
    caplog.set_level("INFO")
    with pytest.raises(MissingInputError, match="Assemble it first"):
        training.train(store)
    assert calls == [pipeline.train]
    assert store == before
    assert "is not used" not in caplog.text


def test_an_absent_api_server_neither_ends_nor_delays_a_training(folder, monkeypatch, caplog):
    """The server is away, then hangs, then is back; each call of the store is one to it."""

    class Away(Store):
        def get(self, key, default=None):
            raise ConnectionError("nobody answers")

        def set(self, key, value):
            tried.append(value["epoch"])
            if len(tried) == 1:
                hung.set()
                assert released.wait(20)
                raise ConnectionError("nobody answers")
            super().set(key, value)

    def call(name, *, on_progress):
        on_progress(EpochRecord.model_validate(EPOCH))
        assert hung.wait(20)
        begun = time.monotonic()
        for epoch in (4, 5, 6):
            on_progress(EpochRecord.model_validate(EPOCH | {"epoch": epoch}))
        waited.append(time.monotonic() - begun)
        released.set()
        return {"epochs": 6}

    tried, waited, hung, released = [], [], threading.Event(), threading.Event()
    monkeypatch.setattr(stage_tasks, "call", call)
    store = Away()
    assert training.train(store) == {"epochs": 6}
    assert tried == [3, 6], "only the newest pointer is sent"
    assert store[training.KEY]["epoch"] == 6
    assert waited[0] < 5
    assert caplog.text.count("cannot be read: ConnectionError") == 1
    assert caplog.text.count("cannot be stored: ConnectionError") == 1


def test_a_training_ends_while_the_api_server_still_hangs(folder, monkeypatch):
    class Hanging(Store):
        def set(self, key, value):
            threading.Event().wait()

    monkeypatch.setattr(training, "CLOSE_SECONDS", 0.1)
    assert training.train(Hanging()) == {"epochs": 1}


def test_the_task_log_has_one_line_per_epoch(folder, caplog):
    caplog.set_level("INFO")
    training.train(Store())
    expected = (
        "epoch 3 of 12: training loss 0.020600, validation loss 0.020300, constant 0.020400, best so far,"
        " learning rate 0.00351, 12,288 rows/s, 8.0 s, at most 1 min 12 s left"
    )
    assert [record.message for record in caplog.records if record.message.startswith("epoch")] == [expected]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MachineError("the training process was ended by SIGABRT"), MachineError),
        (GpuBusyError(0, 6 * 1024**3, 1.0), GpuBusyError),
        (TrainingUnstableError("unstable with every preset"), AirflowFailException),
    ],
)
def test_only_faults_of_the_machine_are_retried(error, raised, tmp_path, monkeypatch):
    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    with pytest.raises(raised), stage_tasks.recorded("night", "train"):
        raise error
    assert (tmp_path / "runs/night/failures/train.json").is_file()
