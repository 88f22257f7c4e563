"""`vpoc-ml doctor --cluster`: the shipped settings pass, each wrong combination is found by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpoc_ops.client import NotUpError
from vpoc_ops.cluster_doctor import examine

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = dict(
    line.split("=", 1)
    for line in (ROOT / "deploy" / "airflow.env").read_text().splitlines()
    if line and not line.startswith("#")
)
CLUSTER = SHIPPED | {
    "AIRFLOW__CORE__FERNET_KEY": "f" * 44,
    "AIRFLOW__API__SECRET_KEY": "a" * 64,
    "AIRFLOW__API_AUTH__JWT_SECRET": "b" * 64,
    "AIRFLOW__CELERY__BROKER_URL": "redis://redis/0",
    "VPOC_LAKE": "/lake",
    "VPOC_AIRFLOW_URL": "http://api-server:8080",
}
HEARTBEAT = "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"
ORPHANS = "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"
STOP = "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS"
VISIBILITY = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"


def found(environment=None, queues=("default", "rocm"), slots=1):
    diagnostics = examine(CLUSTER | (environment or {}), lambda broker: set(queues), lambda pool: slots)
    return {each.subject: each for each in diagnostics}


def problems(**options):
    return {name: each for name, each in found(**options).items() if each.level == "problem"}


def test_the_shipped_settings_have_no_problem():
    assert problems() == {}


@pytest.mark.parametrize(
    ("environment", "subject", "remedy"),
    [
        ({VISIBILITY: "3600"}, VISIBILITY, "a second time"),
        ({"VPOC_TRAIN_TIMEOUT_HOURS": "48"}, VISIBILITY, "48 h"),
        ({HEARTBEAT: "60"}, HEARTBEAT, "at least 120"),
        ({HEARTBEAT: "soon"}, HEARTBEAT, "at least 120"),
        ({ORPHANS: ""}, ORPHANS, "at most 60"),
        ({ORPHANS: "soon"}, ORPHANS, "at most 60"),
        ({"AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": ""}, "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT", "3600"),
        ({"AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": ""}, "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT", "15"),
        ({"AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "5"}, "AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "10"),
        ({"AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "3"}, "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS", "12"),
        (
            {"AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "2"},
            "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX",
            "5",
        ),
        ({"VPOC_TRAIN_RETRIES": "2"}, "VPOC_TRAIN_RETRIES", "at least 10"),
        ({STOP: ""}, STOP, "vpoc_airflow.celery_config.CELERY_CONFIG"),
        ({STOP: "my.celery.CONFIG"}, STOP, "killed with its training"),
        ({"AIRFLOW__CORE__FERNET_KEY": ""}, "AIRFLOW__CORE__FERNET_KEY", "make env"),
        ({"AIRFLOW__API_AUTH__JWT_SECRET": "airflow_jwt_secret"}, "AIRFLOW__API_AUTH__JWT_SECRET", "make env"),
        ({"AIRFLOW__API__SECRET_KEY": "short"}, "AIRFLOW__API__SECRET_KEY", "make env"),
        ({"VPOC_LAKE": ""}, "shared lake", "VPOC_LAKE"),
        ({"VPOC_LAKE": "data"}, "shared lake", "VPOC_LAKE"),
        ({"VPOC_LAKE": "s3://bucket/es"}, "shared lake", "VPOC_REGISTRY"),
        ({"VPOC_TRAIN_POOL": ""}, "pool", "VPOC_TRAIN_POOL=gpu"),
    ],
)
def test_a_wrong_setting_is_a_problem_with_a_remedy(environment, subject, remedy):
    wrong = problems(environment=environment)
    assert wrong.keys() == {subject}
    assert remedy in wrong[subject].remedy


def test_a_queue_without_a_worker_is_a_problem():
    wrong = problems(queues=("default",))
    assert wrong.keys() == {"queue rocm"}
    assert "workers serve default" in wrong["queue rocm"].found


PODS = {"VPOC_TRAIN_EXECUTOR": "KubernetesExecutor", "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor,KubernetesExecutor"}


def test_trainings_in_pods_need_no_worker_of_the_queue():
    assert problems(queues=("default",), environment=PODS) == {}
    assert found(environment=PODS)["lake of pods"].level == "note"
    assert "lake of pods" not in found(environment=PODS | {"VPOC_LAKE": "s3://bucket/es", "VPOC_REGISTRY": "/registry"})
    wrong = problems(queues=("default",), environment=PODS | {"VPOC_TRAIN_EXECUTOR": ""})
    assert "VPOC_TRAIN_EXECUTOR=KubernetesExecutor" in wrong["queue rocm"].remedy


@pytest.mark.parametrize(
    ("executors", "wanted", "known"),
    [
        ("CeleryExecutor", "KubernetesExecutor", False),
        ("", "KubernetesExecutor", False),
        ("CeleryExecutor, KubernetesExecutor", "KubernetesExecutor", True),
        ("CeleryExecutor,pods:KubernetesExecutor", "pods", True),
        ("own.place.GpuExecutor", "GpuExecutor", True),
        ("own.place.GpuExecutor", "own.place.GpuExecutor", True),
    ],
)
def test_trainings_name_an_executor_that_airflow_has(executors, wanted, known):
    environment = {"AIRFLOW__CORE__EXECUTOR": executors, "VPOC_TRAIN_EXECUTOR": wanted}
    assert found(environment=environment)["VPOC_TRAIN_EXECUTOR"].level == ("ok" if known else "problem")


def test_a_missing_pool_is_a_problem_and_an_unknown_one_a_note():
    assert problems(slots=None)["pool"].found == "gpu: missing"
    assert found(environment={"VPOC_AIRFLOW_URL": ""})["pool"].level == "note"

    def refuse(pool):
        raise NotUpError("nobody answers")

    (pool,) = [each for each in examine(CLUSTER, lambda broker: {"default", "rocm"}, refuse) if each.subject == "pool"]
    assert (pool.level, pool.found) == ("problem", "nobody answers")


def test_no_secret_is_shown_and_a_silent_broker_is_a_problem(tmp_path):
    """The command itself, with a broker that nobody serves."""
    environment = os.environ | CLUSTER | {"AIRFLOW__CELERY__BROKER_URL": "redis://:hidden@127.0.0.1:9/0"}
    environment |= {"VPOC_AIRFLOW_URL": ""}
    command = [sys.executable, "-m", "vpoc_ops.cluster_doctor"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    diagnostics = {each["subject"]: each for each in json.loads(done.stdout)}
    assert diagnostics["queues"]["level"] == "problem"
    assert "hidden" not in done.stdout
    assert "f" * 44 not in done.stdout
