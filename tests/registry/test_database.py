"""MLflow's SQLite file appears whole or not at all; two processes may put the first things into it at once."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from vpoc_ml.artifacts.studies import TrialRecord
from vpoc_ml.registry import mlflow_copies, mlflow_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def copied_databases():
    """Nothing is copied: the tests make databases."""


def open_at(folder: Path) -> list[str]:
    client = mlflow_store.connect_client(f"sqlite:///{folder / 'mlflow.db'}")
    return [experiment.name for experiment in client.search_experiments()]


def test_a_process_killed_while_it_creates_the_database_leaves_none(tmp_path, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            open_at(tmp_path)
    assert not (tmp_path / "mlflow.db").exists()
    assert open_at(tmp_path) == ["Default"]


def test_a_half_made_file_of_a_killed_process_is_made_anew(tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db.0123.new") as half:
        half.execute("create table _alembic_tmp_tags (name text)")
    assert open_at(tmp_path) == ["Default"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("method", ["create_experiment", "create_registered_model"])
def test_another_process_may_create_the_same_between_question_and_creation(tmp_path, monkeypatch, method):
    create = getattr(MlflowClient, method)
    outcomes = []

    def after_another(self, name, **options):
        create(self, name, **options)
        outcomes.append("created by another process")
        return create(self, name, **options)

    monkeypatch.setattr(MlflowClient, method, after_another)
    store = mlflow_store.MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}")
    store.check()
    assert outcomes == ["created by another process"]
    assert store.versions() == []


def test_two_searches_may_log_their_first_trials_at_once(tmp_path, monkeypatch):
    create = MlflowClient.create_experiment
    monkeypatch.setattr(
        MlflowClient, "create_experiment", lambda self, name: (create(self, name), create(self, name))[1]
    )
    trial = TrialRecord(number=1, trial="abc", params={}, status="scored", value=0.02, metrics=None)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow_copies.log_trial(uri, "night", trial)
    client = mlflow_store.connect_client(uri)
    experiment = client.get_experiment_by_name(mlflow_copies.EXPERIMENT).experiment_id
    assert [run.data.metrics for run in client.search_runs([experiment])] == [{"value": 0.02}]
