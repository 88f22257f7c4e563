"""Which trainings wait, from Airflow's database and the workers' answers."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

pytestmark = pytest.mark.slow

NOW = datetime(2026, 5, 15, 1, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def tasks(airflow_home, no_dag_runs, monkeypatch):
    """A function that stores a run and its tasks: fields that differ from a training queued an hour ago."""
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.pool import Pool
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import delete, insert

    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT", "7200")
    version = uuid4()

    def store(*different):
        with create_session() as session:
            session.merge(DagBundleModel(name="dags-folder"))
            session.flush()
            session.merge(DagModel(dag_id="vpoc_nightly", bundle_name="dags-folder", is_paused=False))
            session.flush()
            fields = {"dag_id": "vpoc_nightly", "run_id": "night-7", "state": "running", "run_type": "manual"}
            session.add(DagRun(run_after=NOW, **fields))
            Pool.create_or_update_pool("gpu", 2, "", include_deferred=False, session=session)
            session.flush()
            number = {"id": version, "dag_id": "vpoc_nightly", "version_number": 1_000_001}
            session.execute(insert(DagVersion.__table__), [number])
            common = {
                "dag_id": "vpoc_nightly",
                "run_id": "night-7",
                "task_id": "train",
                "map_index": -1,
                "try_number": 1,
            }
            common |= {"pool": "gpu", "pool_slots": 1, "queue": "rocm", "executor": "CeleryExecutor", "state": "queued"}
            common |= {"queued_dttm": NOW - HOUR, "scheduled_dttm": NOW - 2 * HOUR, "dag_version_id": version}
            session.execute(insert(TaskInstance.__table__), [common | each | {"id": uuid4()} for each in different])

    yield store
    with create_session() as session:
        for table in (TaskInstance, DagRun, Log):
            session.execute(delete(table))
        session.execute(delete(DagVersion).where(DagVersion.id == version))
        session.execute(delete(Pool).where(Pool.pool == "gpu"))


def waiting(living=lambda: None):
    from airflow.utils.session import create_session

    from vpoc_airflow.waiting import waiting_trainings

    with create_session() as session:
        return waiting_trainings(session, NOW, living)


def test_a_queued_training_has_queue_pool_worker_and_the_time_at_which_airflow_gives_up(tasks):
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    from vpoc_airflow.waiting import REQUEUED

    tasks({})
    (found,) = waiting(lambda: {"default"})
    assert (found.run, found.task, found.tasks, found.queued) == ("vpoc_nightly--night-7", "train", 1, True)
    assert (found.queue, found.pool, found.executor, found.worker) == ("rocm", "gpu", "CeleryExecutor", False)
    assert found.since == NOW - HOUR
    assert found.slots == (1, 2)
    assert found.gives_up == NOW - HOUR + 3 * 2 * HOUR, "queued again twice, two hours each time"
    with create_session() as session:
        key = {"dag_id": "vpoc_nightly", "run_id": "night-7", "task_id": "train", "map_index": -1, "try_number": 1}
        session.add(Log(event=REQUEUED, **key))
        session.add(Log(event=REQUEUED, **key | {"try_number": 0}))
    (again,) = waiting(lambda: {"default", "rocm"})
    assert again.worker
    assert again.gives_up == NOW - HOUR + 2 * 2 * HOUR


def test_a_silent_broker_costs_a_page_its_limit_once(tasks):
    requests = []
    tasks({}, {"task_id": "promote"})
    assert [each.worker for each in waiting(lambda: requests.append("sent"))] == [None, None]
    assert requests == ["sent"]


def test_other_states_other_queues_and_short_waits_are_left_out(tasks):
    short = NOW - timedelta(seconds=30)
    tasks(
        {"state": "running"},
        {"task_id": "ingest_contract", "queue": "default"},
        {"task_id": "decide", "queued_dttm": short},
        {"task_id": "promote", "state": None},
    )
    assert waiting() == ()


def test_mapped_tasks_are_one_entry_and_no_worker_is_queried_for_those_that_need_none(tasks):
    folds = [{"task_id": "train_fold", "map_index": each, "state": "scheduled"} for each in range(3)]
    folds[1]["scheduled_dttm"] = NOW - 3 * HOUR
    tasks(*folds, {"executor": "KubernetesExecutor"})

    def ask():
        raise AssertionError("nobody waits for a Celery worker")

    fold, train = waiting(ask)
    assert (fold.task, fold.tasks, fold.queued, fold.since, fold.gives_up) == (
        "train_fold",
        3,
        False,
        NOW - 3 * HOUR,
        None,
    )
    assert (train.executor, train.worker) == ("KubernetesExecutor", None)


def test_without_its_pool_there_are_no_slots(tasks):
    tasks({"pool": "gone", "state": "scheduled"})
    (found,) = waiting()
    assert found.slots is None


def test_the_event_is_the_one_that_airflow_logs():
    from airflow.jobs.scheduler_job_runner import TASK_STUCK_IN_QUEUED_RESCHEDULE_EVENT

    from vpoc_airflow.waiting import REQUEUED

    assert REQUEUED == TASK_STUCK_IN_QUEUED_RESCHEDULE_EVENT


def test_a_page_waits_for_the_workers_a_limited_time_and_asks_one_question_at_a_time(airflow_home, monkeypatch):
    from vpoc_airflow import waiting as module

    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    answer, calls = threading.Event(), []

    def ask():
        calls.append(1)
        answer.wait(30)
        return {"rocm"}

    queues = module.LivingQueues(ask)
    began = time.monotonic()
    assert queues() is None
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    assert queues() is None, "the first question is still open"
    assert time.monotonic() - began < 10
    assert calls == [1]
    monkeypatch.setattr(module, "FRESH_SECONDS", 60.0)
    monkeypatch.setattr(module, "WAIT_SECONDS", 20)
    answer.set()
    assert queues() == queues() == {"rocm"}
    assert calls == [1], "an answer is shown for a while"


def test_a_broker_that_refuses_is_no_answer_and_is_queried_again_later(airflow_home, monkeypatch):
    from vpoc_airflow import waiting as module

    calls = []

    def ask():
        calls.append(1)
        raise OSError("refused")

    queues = module.LivingQueues(ask)
    assert queues() is None
    assert queues() is None
    assert calls == [1]
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    assert queues() is None
    assert calls == [1, 1]


def test_a_broker_that_accepts_and_stays_silent_is_given_up(monkeypatch):
    from vpoc_ml import broker

    monkeypatch.setattr(broker, "POLL_SECONDS", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(broker.served_queues, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", 0.5)
        with pytest.raises(Exception, match=r"(?i)time"):
            answer.result(60)


def test_a_silent_broker_does_not_hold_a_page(airflow_home):
    """The real question, to an address where nobody answers."""
    from vpoc_airflow.waiting import LivingQueues
    from vpoc_ml.broker import served_queues

    began = time.monotonic()
    assert LivingQueues(lambda: served_queues("redis://127.0.0.1:9/0", 1))() is None
    assert time.monotonic() - began < 10


def test_the_page_of_the_run_shows_it(tasks, tmp_path, monkeypatch):
    from airflow.api_fastapi.app import create_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from vpoc_airflow import waiting as module
    from vpoc_airflow.report_routes import make_app

    (tmp_path / "runs" / "vpoc_nightly--night-7").mkdir(parents=True)
    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    monkeypatch.setattr(module, "living_queues", module.LivingQueues(lambda: {"default"}))
    tasks({})
    create_app()  # installs the auth manager of the routes
    client = TestClient(make_app(), root_path="/vpoc-reports")
    client.app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="viewer", role="viewer")
    for path in ("/run/vpoc_nightly/night-7", "/runs/vpoc_nightly--night-7"):
        page = client.get(path).text
        assert "a worker of queue rocm" in page, path
        assert "No living worker serves queue rocm" in page, path
    assert "train has been waiting for a worker of queue rocm" in client.get("/").text
