"""A real Celery worker whose task trains: SIGTERM costs seconds, and the retry gives the same bytes.

What the worker loads before it starts its processes, and that a forked process computes with it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vpoc_airflow.celery_config import PRELOADED
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

FORKED = """
import multiprocessing, sys
from vpoc_airflow.celery_config import preload

def compute(answer):
    import numba, pandas, polars, torch
    from great_expectations import expectations, get_context
    double = numba.njit(lambda value: 2 * value)
    source = get_context(mode="ephemeral").data_sources.add_pandas("source")
    batch = source.add_dataframe_asset("asset").add_batch_definition_whole_dataframe("batch")
    rows = pandas.DataFrame({"a": [1, 2, 3]})
    at_most = expectations.ExpectColumnMaxToBeBetween(column="a", max_value=3)
    found = batch.get_batch({"dataframe": rows}).validate(at_most)
    groups = polars.from_pandas(rows).lazy().group_by("a").agg(polars.len()).collect().height
    product = torch.ones(300, 300).mm(torch.ones(300, 300))
    answer.put((found.success, double(3), groups, float(product[0, 0])))

preload()
print("threads of", sorted({"polars", "torch"} & set(sys.modules)))
fork = multiprocessing.get_context("fork")
answer = fork.SimpleQueue()
process = fork.Process(target=compute, args=(answer,))
process.start()
process.join(60)
print("exit code", process.exitcode, answer.get() if process.exitcode == 0 else "")
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


def test_a_process_forked_after_the_libraries_are_loaded_computes():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=180, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith(("threads", "exit"))]
    assert found == ["threads of []", "exit code 0 (True, 6, 3, 300.0)"], done.stdout + done.stderr
