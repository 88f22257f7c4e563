"""Curves in MLflow: live with a store that works, silent about one that does not, complete either way."""

from __future__ import annotations

import json
import logging

from vpoc_ml.artifacts.training_progress import EpochRecord, WindowRecord
from vpoc_ml.registry import mlflow_copies as module
from vpoc_ml.registry.mlflow_copies import Curves, points, stored_points
from vpoc_ml.registry.mlflow_store import EXPERIMENT, MlflowStore

WINDOW = WindowRecord(step=100, epoch=1, loss=0.02, lr=1e-3)
EPOCH = EpochRecord(step=200, epoch=1, validation_loss=0.019, best=True)


def test_every_number_becomes_a_point_at_its_step():
    assert points([WINDOW, EPOCH]) == [
        ("training/loss", 0.02, 100),
        ("training/lr", 1e-3, 100),
        ("training/skipped", 0.0, 100),
        ("training/rollbacks", 0.0, 100),
        ("training/validation_loss", 0.019, 200),
        ("training/best", 1.0, 200),
        ("training/dead", 0.0, 200),
        ("training/seconds", 0.0, 200),
    ]


def test_points_of_a_finished_run_come_from_its_file(tmp_path):
    assert stored_points(tmp_path) == []
    (tmp_path / "progress.jsonl").write_text(f"{json.dumps(WINDOW.to_json())}\n{json.dumps(EPOCH.to_json())}\n")
    assert stored_points(tmp_path) == points([WINDOW, EPOCH])


def test_a_short_run_never_opens_mlflow():
    def forbidden():
        raise AssertionError

    curves = Curves(forbidden, "night")
    curves(WINDOW)
    curves.close()
    assert curves.thread is None


def test_live_curves_arrive_and_a_restarted_run_goes_on_in_the_same_place(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.05)
    mlflow = MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "artifacts").as_uri())
    for line in (WINDOW, EPOCH):
        curves = Curves(lambda: mlflow, "night", after=0.0)
        curves(line)
        curves.close()
    client = mlflow.client
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    (run,) = client.search_runs([experiment], "tags.run = 'night'")
    assert run.info.status == "FINISHED"
    found = client.get_metric_history(run.info.run_id, "training/loss")
    assert [(point.step, point.value) for point in found] == [(100, 0.02)]
    assert run.data.metrics["training/validation_loss"] == 0.019


def test_a_broken_mlflow_is_reported_once_and_holds_nothing_up(caplog, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)

    class Broken:
        def open_live(self, run):
            return "id"

        def log_curves(self, run_id, points):
            raise ConnectionError("refused")

    curves = Curves(Broken, "night", after=0.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            curves(WINDOW)
        curves.close()
    assert caplog.text.count("not sent to MLflow: ConnectionError: refused") == 1
