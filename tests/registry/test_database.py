"""MLflow's SQLite file appears whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from vpoc_ml.registry import mlflow_store

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
