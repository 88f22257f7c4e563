"""A real Celery worker whose task trains: SIGTERM costs seconds, and the retry gives the same bytes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vpoc_airflow.preload import PRELOADED
from vpoc_ml.training.launch.job import train_run

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location("training_sets", Path(__file__).parents[1] / "training" / "conftest.py")
training_sets = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = training_sets
spec.loader.exec_module(training_sets)

WORKER = """
import os
import sys
from pathlib import Path

from celery import Celery

import vpoc_airflow.celery_config
from vpoc_ml.training.launch.subprocess import launch

place = os.environ["BROKER"]
app = Celery("worker", broker="filesystem://", backend=f"file://{place}/results")
folders = {"data_folder_in": f"{place}/queue", "data_folder_out": f"{place}/queue"}
folders["control_folder"] = f"{place}/control"
app.conf.update(broker_transport_options=folders, worker_prefetch_multiplier=1, task_acks_late=True)


@app.task(name="train")
def train(folder):
    Path(place, "loaded").write_text(" ".join(sys.modules))
    launch(Path(folder))
"""


def test_a_worker_that_receives_sigterm_stops_its_training_after_a_checkpoint(tmp_path):
    settings = {"training.epochs": 40, "training.batch_size": 64, "training.monitor_steps": 10}
    settings |= {"machine.checkpoint_seconds": 0.1, "training.patience": 1000}
    whole, stopped = (
        training_sets.write_run(tmp_path / name, training_sets.plant(4_000), settings) for name in ("whole", "stopped")
    )
    for name in ("queue", "control", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "worker.py").write_text(WORKER)
    environment = os.environ | {"BROKER": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    send = f"import worker; worker.train.delay({str(stopped)!r})"
    subprocess.run([sys.executable, "-c", send], env=environment, check=True)
    log = (tmp_path / "log").open("w")
    command = ["-m", "celery", "-A", "worker", "worker", "-c", "1", "--without-gossip", "--without-mingle"]
    worker = subprocess.Popen([sys.executable, *command], env=environment, cwd=tmp_path, stdout=log, stderr=log)
    until = time.monotonic() + 120
    while not list((stopped / "checkpoints").glob("step-*.ckpt")) and time.monotonic() < until:
        time.sleep(0.05)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    log.close()
    assert "TrainingStoppedError" in (tmp_path / "log").read_text()
    assert not (stopped / "training_result.json").exists(), "the training was too short to be stopped"
    train_run(whole)
    assert train_run(stopped).resumed_from_step > 0
    for name in ("best_model", "final_model"):
        assert (stopped / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes()
    assert set(PRELOADED) <= set((tmp_path / "loaded").read_text().split())
