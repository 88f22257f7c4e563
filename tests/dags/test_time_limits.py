"""Time limits of every task and DAG, and the deadline of the nightly run."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from vpoc_ml.errors import InvalidValueError

HOUR = timedelta(hours=1)


def test_every_task_and_every_dag_has_a_time_limit(bag):
    assert bag.import_errors == {}
    assert bag.dags
    for dag in bag.dags.values():
        assert dag.dagrun_timeout == 72 * HOUR, dag.dag_id
        for task in dag.tasks:
            assert task.execution_timeout in (6 * HOUR, 24 * HOUR), task.task_id


def test_training_tasks_have_the_longer_limit(bag):
    long = {
        (dag.dag_id, task.task_id)
        for dag in bag.dags.values()
        for task in dag.tasks
        if task.execution_timeout == 24 * HOUR
    }
    nightly = {("vpoc_nightly", task) for task in ("train", "train_fold", "decide")}
    searches = {("vpoc_search", task) for task in ("prepare", "search")}
    assert long == nightly | searches | {("vpoc_champion", "promote")}  # a decision may train again


def test_deadline_of_the_nightly_run_alone_counts_from_its_start(airflow_home, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    monkeypatch.setenv("VPOC_DEADLINE_HOURS", "8.5")
    dags = DagBag().dags
    assert [name for name, dag in dags.items() if dag.deadline] == ["vpoc_nightly"]
    (alert,) = dags["vpoc_nightly"].deadline
    assert (alert.interval, alert.reference.reference_name) == (8.5 * HOUR, "DagRunQueuedAtDeadline")
    assert alert.callback.path == "vpoc_airflow.time_limits.record_missed_deadline"
    assert "deadline" in DagSerialization.serialize_dag(dags["vpoc_nightly"])


def test_missed_deadline_is_recorded_in_the_runs_folder(airflow_home, monkeypatch, tmp_path):
    from vpoc_airflow.time_limits import record_missed_deadline
    from vpoc_ml.lake.store import Lake
    from vpoc_ml.reports.run_state import failures

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    run = {"dag_id": "vpoc_nightly", "dag_run_id": "may"}
    record_missed_deadline({"dag_run": run, "deadline": {"id": "1", "deadline_time": "2026-05-15T10:30:00Z"}})
    (record,) = failures(Lake(tmp_path), "vpoc_nightly--may")
    assert (record.stage, record.error) == ("deadline", "DeadlineMissedError")
    assert "Expected run may to end by Fri 2026-05-15 05:30 CDT (10:30 UTC); it is" in record.message


def test_deadline_of_a_run_that_has_failed_before_it_is_not_missed(airflow_home, monkeypatch, tmp_path):
    from vpoc_airflow.time_limits import record_missed_deadline

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    run = {"dag_id": "vpoc_nightly", "dag_run_id": "may", "state": "failed"}
    record_missed_deadline({"dag_run": run, "deadline": {"id": "1", "deadline_time": "2026-05-15T10:30:00Z"}})
    assert not list(tmp_path.rglob("*.json*"))


def test_task_that_exceeds_its_limit_leaves_a_record_and_keeps_its_retries(airflow_home, monkeypatch, tmp_path):
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from vpoc_airflow import stage_tasks

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    with pytest.raises(AirflowTaskTimeout), stage_tasks.recorded("may", "evaluate"):
        raise AirflowTaskTimeout("Timeout, PID: 7")
    record = json.loads((tmp_path / "runs" / "may" / "failures" / "evaluate.json").read_text())
    assert record["error"] == "AirflowTaskTimeout"
    assert "VPOC_TASK_TIMEOUT_HOURS" in record["message"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("VPOC_TASK_TIMEOUT_HOURS", "0"),
        ("VPOC_TRAIN_TIMEOUT_HOURS", "-1"),
        ("VPOC_RUN_TIMEOUT_HOURS", "two days"),
        ("VPOC_DEADLINE_HOURS", "nan"),
    ],
)
def test_value_that_is_no_limit_is_rejected_by_name(airflow_home, monkeypatch, name, text):
    from vpoc_airflow.time_limits import limit

    monkeypatch.setenv(name, text)
    with pytest.raises(InvalidValueError, match=f"{name}.*hours, a number such as"):
        limit(name)


def test_retries_of_a_training_are_settings(airflow_home, monkeypatch):
    from vpoc_airflow.time_limits import training_retries, training_retry_delay

    monkeypatch.setenv("VPOC_TRAIN_RETRIES", "100")
    monkeypatch.setenv("VPOC_TRAIN_RETRY_SECONDS", "2.5")
    assert (training_retries(), training_retry_delay().total_seconds()) == (100, 2.5)
    monkeypatch.setenv("VPOC_TRAIN_RETRIES", "many")
    with pytest.raises(InvalidValueError, match=r"VPOC_TRAIN_RETRIES.*retries, a number such as 30"):
        training_retries()


def test_no_deadline_at_0_hours(airflow_home, monkeypatch):
    from vpoc_airflow.time_limits import nightly_deadline

    monkeypatch.setenv("VPOC_DEADLINE_HOURS", "0")
    assert nightly_deadline() is None
