"""The environment of an Airflow home."""

from __future__ import annotations

from pathlib import Path

from vpoc_ml import environment
from vpoc_ops import airflow_home as home


def test_home_is_local_and_complete_and_sends_no_telemetry(tmp_path):
    variables = home.airflow_env(tmp_path, tmp_path / "lake", port=8123)
    assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert variables["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
    assert variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    assert Path(variables["AIRFLOW__CORE__DAGS_FOLDER"]).is_dir()


def test_airflow_settings_of_the_caller_are_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__DEBUG__X", "1")
    monkeypatch.setenv("UNRELATED", "kept")
    merged = home.merged(home.airflow_env(tmp_path, tmp_path))
    assert merged["AIRFLOW__CORE__EXECUTOR"] == "vpoc_airflow.local_executor.LocalExecutor"
    assert "AIRFLOW__DEBUG__X" not in merged
    assert merged["UNRELATED"] == "kept"


def test_pool_of_trainings_is_made_once_and_keeps_the_slots_it_was_given(airflow_home, monkeypatch):
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session

    monkeypatch.setattr("airflow.utils.db.initdb", lambda: None)  # the database of the tests is there
    with create_session() as session:
        if Pool.get_pool("gpu", session=session) is not None:
            Pool.delete_pool("gpu", session=session)
    home.prepare()
    with create_session() as session:
        pool = Pool.get_pool("gpu", session=session)
        assert pool.slots == 1
        pool.slots = 3
    home.prepare()
    with create_session() as session:
        assert Pool.get_pool("gpu", session=session).slots == 3
        Pool.delete_pool("gpu", session=session)


def test_lake_is_the_variable_or_the_projects_data(monkeypatch):
    monkeypatch.setenv("VPOC_LAKE", "/somewhere")
    assert environment.lake_root() == Path("/somewhere")
    monkeypatch.delenv("VPOC_LAKE")
    assert environment.lake_root() == environment.PROJECT / "data"


def test_connections_of_the_environment_are_kept_for_alerts(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_VPOC_MAIL", "smtp://mail.example.com")
    merged = home.merged(home.airflow_env(tmp_path, tmp_path))
    assert merged["AIRFLOW_CONN_VPOC_MAIL"] == "smtp://mail.example.com"
