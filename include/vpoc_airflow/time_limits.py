"""Time limits of tasks and runs, retries of trainings, the deadline of the nightly run. DAG files import this module.

A task that exceeds its limit is stopped, and repeated as after a fault of the machine. A run that exceeds its limit
fails. A missed deadline stops nothing: it is recorded in the run's folder, which the reports pages show.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from vpoc_ml import environment
from vpoc_ml.errors import InvalidValueError, VpocError

log = logging.getLogger(__name__)

DEADLINE = "deadline"
"""Name of the record of a missed deadline among a run's failures, and of the alert in Airflow."""

LARGEST = 10_000

ENDED = ("success", "failed")
"""States of a run that has ended."""

DEFAULT_HOURS = {
    environment.TASK_TIMEOUT_HOURS: 6.0,
    environment.TRAIN_TIMEOUT_HOURS: 24.0,
    environment.RUN_TIMEOUT_HOURS: 72.0,
    environment.DEADLINE_HOURS: 12.0,
}


class DeadlineMissedError(VpocError):
    """A run has not ended in time."""


def limit(name: str) -> timedelta:
    """Return the time limit that an environment variable gives in hours, else its default.

    Raises:
        InvalidValueError: it is no number of hours above 0; for the deadline, 0 is allowed and means none.
    """
    least = 0.0 if name == environment.DEADLINE_HOURS else 1e-3
    return timedelta(hours=_number(name, "hours", DEFAULT_HOURS[name], least))


def _number(name: str, unit: str, default: float, least: float) -> float:
    text = environment.read(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= LARGEST:
        raise InvalidValueError(name, text, f"{unit}, a number such as {default:g}, from {least:g} to {LARGEST}")
    return value


def training_retries() -> int:
    """Return how often a task that trains is repeated. A restarted worker costs one of these, and seconds of work."""
    return int(_number(environment.TRAIN_RETRIES, "retries", 30, 0))


def training_retry_delay() -> timedelta:
    """Return the wait before each repetition of a task that trains."""
    return timedelta(seconds=_number(environment.TRAIN_RETRY_SECONDS, "seconds", 15, 0))


def task_limit() -> timedelta:
    """Return how long a task may run that trains nothing."""
    return limit(environment.TASK_TIMEOUT_HOURS)


def training_limit() -> timedelta:
    """Return how long a task may run that trains, or that runs many stages."""
    return limit(environment.TRAIN_TIMEOUT_HOURS)


def run_limit() -> timedelta:
    """Return how long a run of a DAG may take, all waits included."""
    return limit(environment.RUN_TIMEOUT_HOURS)


def nightly_deadline() -> DeadlineAlert | None:
    """Return the deadline of a nightly run, counted from when it is queued: 17:30 Chicago of a scheduled run."""
    interval = limit(environment.DEADLINE_HOURS)
    if not interval:
        return None
    queued = DeadlineReference.DAGRUN_QUEUED_AT
    return DeadlineAlert(queued, interval, SyncCallback(record_missed_deadline), name=DEADLINE)


def record_missed_deadline(context: Mapping[str, Any]) -> None:
    """Record in the run's folder that the run has missed its deadline, and alert; Airflow's executor calls this."""
    from vpoc_airflow.alerts import deadline_missed
    from vpoc_airflow.stage_tasks import open_lake
    from vpoc_ml.artifacts.alert import both_times
    from vpoc_ml.artifacts.layout import dag_run_name
    from vpoc_ml.pipeline.run import record_failure

    run, state = context["dag_run"], context["dag_run"].get("state") or "unfinished"
    missed = both_times(datetime.fromisoformat(str(context["deadline"]["deadline_time"])))
    if state in ENDED:  # Airflow keeps the deadline of a run that has failed
        log.info("Run %s had ended before its deadline, %s: %s", run["dag_run_id"], missed, state)
        return
    error = DeadlineMissedError(
        f"Expected run {run['dag_run_id']} to end by {missed}; it is {state}. It goes on. Look in Airflow at the task"
        f" that runs or waits, and at the machine; {environment.DEADLINE_HOURS} moves the deadline."
    )
    log.error("%s", error)
    record_failure(open_lake(), dag_run_name(run["dag_id"], run["dag_run_id"]), DEADLINE, "", error)
    deadline_missed(run["dag_id"], run["dag_run_id"], str(error))
