"""``python -m vpoc_ops.cluster_doctor``: diagnostics of a cluster's settings as JSON, for ``vpoc-ml doctor --cluster``.

Run it with the environment of a worker. It reads the ``AIRFLOW__`` variables, not Airflow's configuration file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from airflow_client.client import PoolApi

from vpoc_ml import environment as names
from vpoc_ml.broker import TRAIN_QUEUE, served_queues
from vpoc_ml.errors import VpocError
from vpoc_ml.training.hardware.known_issues import Diagnostic
from vpoc_ops.client import TIMEOUT, NotUpError, RefusedError, connect, translated_errors

BROKER = "AIRFLOW__CELERY__BROKER_URL"
EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
DEFAULT_QUEUE = "AIRFLOW__OPERATORS__DEFAULT_QUEUE"
CELERY_CONFIG = "vpoc_airflow.celery_config.CELERY_CONFIG"
PODS = "KubernetesExecutor"
FILE = "deploy/airflow.env has it."
LEAST_SECRET = 16
"""Letters of a secret below which anybody can guess it."""
PUBLISHED = ("airflow_jwt_secret", "temporary_key", "changeme", "airflow", "secret")
"""Beginnings of secrets that examples on the web show."""
SECRETS = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")
LEAST: dict[str, tuple[float, float, str]] = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": (
        300,
        120,
        "an API server that is away for a minute has living tasks declared dead",
    ),
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": (
        600,
        3600,
        "a task that waits for a worker fails, without its retries, after three times as long",
    ),
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": (5, 15, "the first tasks after a start fail before they begin"),
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": (5, 10, "an API server that is away for a minute costs tasks a try"),
    "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": (
        90,
        5,
        "the retries of an API call are over before an API server is back",
    ),
    names.TRAIN_RETRIES: (30, 10, "restarts of workers in one night use up the tries of a training"),
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": (3, 12, "an API server that is away for a minute ends trainings"),
}
"""Variable: Airflow's default, the least value, and what a smaller one costs."""

Queues = Callable[[str], set[str]]
Slots = Callable[[str], int | None]


def examine(
    environment: Mapping[str, str], queues: Queues | None = None, slots: Slots | None = None
) -> list[Diagnostic]:
    """Return what is found of a cluster: time limits, secrets, lake, executors, queues, pool.

    Args:
        environment: that of a worker.
        queues: returns the queues that workers of a broker's URL take tasks from.
        slots: returns the slots of a pool, None where it does not exist.
    """
    return [
        *check_limits(environment),
        *check_secrets(environment),
        check_shared(environment),
        *check_stop(environment),
        *check_train_executor(environment),
        *check_queues(environment, queues or served_queues),
        check_pool(environment, slots or pool_slots),
    ]


def check_limits(environment: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Compare time limits and retries with what the product needs."""
    for variable, (default, least, cost) in LEAST.items():
        value = _number(environment, variable, default)
        yield _diagnostic(variable, value >= least, f"{value:g}", f"{cost}. Set it to at least {least:g}; {FILE}")
    variable = "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"
    interval = _number(environment, variable, 300)
    remedy = f"after a kill of the scheduler a dead worker is not noticed for so long. Set it to at most 60; {FILE}"
    yield _diagnostic(variable, 0 < interval <= 60, f"{interval:g} s", remedy)
    variable = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"
    visible, hours = _number(environment, variable, 86_400), _number(environment, names.TRAIN_TIMEOUT_HOURS, 24)
    remedy = f"the broker delivers a training of {hours:g} h ({names.TRAIN_TIMEOUT_HOURS}) a second time. Raise it."
    yield _diagnostic(variable, visible >= hours * 3600, f"{visible:g} s", remedy)


def check_secrets(environment: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Require the keys that all parts share; their values are never shown."""
    for variable in SECRETS:
        value = environment.get(variable, "")
        published = value.lower().startswith(PUBLISHED)
        found = "missing" if not value else "one that is published" if published else "too short"
        passes = not published and len(value) >= LEAST_SECRET
        remedy = "each part makes its own or anybody can sign tokens. `make env` writes .env with generated ones."
        yield _diagnostic(variable, passes, "set" if passes else found, remedy)


def check_shared(environment: Mapping[str, str]) -> Diagnostic:
    """Require a lake that is named: the default is a folder of each machine's own. Others check that it is writable."""
    lake = environment.get(names.LAKE, "")
    remedy = f"each worker has a lake of its own. Set {names.LAKE} to a shared folder or s3://bucket/prefix."
    if "://" in lake and not environment.get(names.REGISTRY):
        missing = f"{lake}, no {names.REGISTRY}"
        return _diagnostic(
            "shared lake", False, missing, f"the ledger needs a folder. Set {names.REGISTRY} to a shared one."
        )
    return _diagnostic(
        "shared lake", bool(lake) and ("://" in lake or Path(lake).is_absolute()), lake or "none named", remedy
    )


def check_stop(environment: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Require the configuration of Celery that stops trainings when their worker has to end."""
    if "CeleryExecutor" not in environment.get(EXECUTOR, ""):
        return
    variable = "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS"
    found = environment.get(variable, "")
    remedy = f"a worker that has to end is killed with its training. Set it to {CELERY_CONFIG}; {FILE}"
    yield _diagnostic(variable, found == CELERY_CONFIG, found or "Airflow's own", remedy)


def check_train_executor(environment: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Require the executor that the trainings name, if they name one, and a lake that its pods can reach."""
    wanted = environment.get(names.TRAIN_EXECUTOR, "")
    if not wanted:
        return
    configured = environment.get(EXECUTOR, "")
    known = {
        part.strip() for each in configured.split(",") for part in (each, *each.split(":"), each.rpartition(".")[2])
    }
    remedy = f"Airflow imports no DAG that trains. Add {wanted} to {EXECUTOR}, or unset {names.TRAIN_EXECUTOR}."
    found = wanted if wanted in known else f"{wanted}, but the executors are {configured or 'the default'}"
    yield _diagnostic(names.TRAIN_EXECUTOR, wanted in known, found, remedy)
    lake = environment.get(names.LAKE, "")
    if wanted == PODS and "://" not in lake:
        yield Diagnostic("lake of pods", "note", f"{lake or 'none named'}: each pod must mount it at this path")


def check_queues(environment: Mapping[str, str], queues: Queues) -> Iterator[Diagnostic]:
    """Require a Celery worker for the queue of every task."""
    if "CeleryExecutor" not in environment.get(EXECUTOR, ""):
        yield Diagnostic("queues", "note", f"{environment.get(EXECUTOR) or 'the default executor'} has no workers")
        return
    try:
        served = queues(environment.get(BROKER, ""))
    except Exception as error:  # noqa: BLE001 - every broker has errors of its own
        yield Diagnostic(
            "queues", "problem", f"the broker does not answer: {type(error).__name__}", f"Correct {BROKER}."
        )
        return
    elsewhere = (environment.get(names.TRAIN_EXECUTOR) or "CeleryExecutor") != "CeleryExecutor"
    for queue in (environment.get(DEFAULT_QUEUE) or "default", *(() if elsewhere else (TRAIN_QUEUE,))):
        found = "has a worker" if queue in served else f"no worker; workers serve {', '.join(sorted(served)) or 'none'}"
        remedy = f"its tasks wait, and fail in the end. Start `airflow celery worker --queues {queue}`."
        if queue == TRAIN_QUEUE and PODS in environment.get(EXECUTOR, ""):
            remedy += f" {names.TRAIN_EXECUTOR}={PODS} trains in pods instead."
        yield _diagnostic(f"queue {queue}", queue in served, found, remedy)


def check_pool(environment: Mapping[str, str], slots: Slots) -> Diagnostic:
    """Require the pool that limits trainings."""
    pool = environment.get(names.TRAIN_POOL, "")
    if not pool:
        remedy = f"as many trainings as the workers allow share a GPU. Set {names.TRAIN_POOL}=gpu; {FILE}"
        return _diagnostic("pool", False, "none for trainings", remedy)
    if not environment.get(names.AIRFLOW_URL):
        return Diagnostic("pool", "note", f"{pool}: not examined. Set {names.AIRFLOW_URL} and a password or token.")
    try:
        found = slots(pool)
    except (NotUpError, RefusedError, VpocError) as error:
        return Diagnostic("pool", "problem", str(error), f"Correct {names.AIRFLOW_URL}, user and password.")
    remedy = f"trainings wait for ever. `airflow pools set {pool} 1 trainings` makes it, one slot per GPU."
    return _diagnostic("pool", bool(found), f"{pool}: " + ("missing" if found is None else f"{found} slots"), remedy)


def pool_slots(pool: str) -> int | None:
    """Return the slots of a pool of the Airflow that the environment names; None where there is none."""
    airflow = connect(Path())
    try:
        with translated_errors(airflow.url):
            return int(PoolApi(airflow.api).get_pool(pool, _request_timeout=TIMEOUT).slots)
    except RefusedError as error:
        if error.status == 404:
            return None
        raise


def _number(environment: Mapping[str, str], variable: str, default: float) -> float:
    """Return a variable's number; one that is none counts as 0, which is below every limit."""
    try:
        return float(environment.get(variable) or default)
    except ValueError:
        return 0.0


def _diagnostic(subject: str, passes: bool, found: str, remedy: str) -> Diagnostic:
    return Diagnostic(subject, "ok" if passes else "problem", found, "" if passes else remedy[0].upper() + remedy[1:])


if __name__ == "__main__":
    import os

    sys.stdout.write(json.dumps([asdict(each) for each in examine(os.environ)]) + "\n")
