"""What every task of a DAG does: find the run's folder, call one function of the pipeline, translate its errors.

``conclude`` carries out the answer to the nightly run's request for approval.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypedDict

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from vpoc_airflow import alerts, time_limits
from vpoc_ml import environment, pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.broker import TRAIN_QUEUE
from vpoc_ml.environment import lake_uri
from vpoc_ml.errors import ArtifactError, LockLostError, MachineError, VpocError
from vpoc_ml.pipeline.events import StageEvent, notify
from vpoc_ml.pipeline.stages import SEPARATE, STAGES, Stage, stage_named

if TYPE_CHECKING:
    from vpoc_ml.artifacts.json_artifact import JsonArtifact
    from vpoc_ml.lake.store import Lake


log = logging.getLogger(__name__)

P = ParamSpec("P")

PROGRAM_ERRORS: list[type[BaseException] | str] = [AssertionError, AttributeError, ImportError, LookupError, TypeError]
NAMED = frozenset(stage.function_name for stage in (*STAGES, *SEPARATE) if stage.scope in ("contract", "fold"))
"""Functions whose first argument names a contract or a fold."""

NOTED = {"lost": "Lost at a roll", "steps": "Step at a roll, not measured", "lost_rows": "Lost to warm-ups"}
"""Fields of results that state in sentences what a stage lost or assumed, and their titles."""


TIMED_OUT = (
    "Expected the task to end within its time limit; Airflow has stopped it. Its log shows what it waited for."
    f" {environment.TASK_TIMEOUT_HOURS}, or {environment.TRAIN_TIMEOUT_HOURS} of a training, raises the limit."
)

APPROVE, REJECT = "Approve", "Reject"
REQUEST = """{{ ti.xcom_pull(task_ids='decide')['evidence'] }}

[Report and gates of this run](/vpoc-reports/run/{{ dag.dag_id }}/{{ run_id | urlencode }})
"""
"""Body of the form, a template of Airflow: the evidence that stage ``decide`` returned, and the run's pages."""


class TaskDefaults(TypedDict):
    """Default arguments of a DAG's tasks."""

    retries: int
    retry_delay: timedelta
    retry_exponential_backoff: float
    max_retry_delay: timedelta
    retry_policy: ExceptionRetryPolicy
    execution_timeout: timedelta
    on_failure_callback: alerts.AlertNotifier


TASK_DEFAULTS: TaskDefaults = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": ExceptionRetryPolicy([RetryRule(PROGRAM_ERRORS, RetryAction.FAIL, reason="the program is wrong")]),
    "execution_timeout": time_limits.task_limit(),
    "on_failure_callback": alerts.AlertNotifier(alerts.FAILED),
}
"""Tasks are retried after faults of the machine. A fault of the program fails the task at once.

A task that fails for good raises an alert at once, before its run ends; an attempt that is repeated raises none.
"""

TRAINING: dict[str, Any] = {
    "queue": TRAIN_QUEUE,
    "pool": environment.read(environment.TRAIN_POOL) or "default_pool",
    "executor": environment.read(environment.TRAIN_EXECUTOR),
    "execution_timeout": time_limits.training_limit(),
    "retries": time_limits.training_retries(),
    "retry_delay": time_limits.training_retry_delay(),
    "retry_exponential_backoff": 0,
}
"""Where the tasks that train a network run, for how long, and how often they are repeated.

Each repetition resumes from the last checkpoint, so many cost little: restarts of workers must not use them up in one
night. A decision may train a candidate a second time.
"""


def current_run() -> str:
    """Return the folder name of the run whose task is executing."""
    context = get_current_context()
    return layout.dag_run_name(context["dag"].dag_id, context["run_id"])


def run_dir(run: str) -> Path:
    """Return the local folder of a run: in the lake, or its mirror if the lake is an object store."""
    return Path(open_lake().folder(layout.run_folder(run)))


def call(
    function: Callable[Concatenate[str, str, P], JsonArtifact | None], *args: P.args, **kwargs: P.kwargs
) -> dict[str, Any]:
    """Call ``function(lake, run, *args, **kwargs)`` of ``vpoc_ml.pipeline`` for the current run; return its JSON.

    ``recorded`` says what happens to errors. The record of a stage that runs once per contract or fold names it, the
    first argument.
    """
    run, name = current_run(), function.__name__
    with recorded(run, name, label=str(args[0]) if name in NAMED else ""):
        result = function(lake_uri(), run, *args, **kwargs)
    return {} if result is None else result.to_json()


def run_stage(stage_name: str, contracts: list[str]) -> dict[str, Any]:
    """Run a stage of the table that is called once in a run; log what it lost or assumed, return its result.

    Args:
        stage_name: name in ``vpoc_ml.pipeline.stages``.
        contracts: contracts of the run; not used by a stage of scope ``run``.
    """
    stage = stage_named(stage_name)
    (arguments,) = stage.arguments(list(contracts), datetime.now(UTC))
    result: dict[str, Any] = call(stage.function, *arguments)
    for field, title in NOTED.items():
        for note in result.get(field, ()):
            log.warning("%s: %s", title, note)
    return result


def run_contract_stage(stage_name: str, contract: str) -> dict[str, Any]:
    """Run a stage of the table for one contract; the contract's code is the name of the mapped task."""
    get_current_context()["contract"] = contract
    result: dict[str, Any] = call(stage_named(stage_name).function, contract)
    return result


def planned_folds() -> list[str]:
    """Plan the folds of the walk-forward evaluation; return their names, none for one split of the sessions."""
    return list(call(pipeline.plan_folds)["folds"])


def run_fold_stage(stage_name: str, fold: str) -> dict[str, Any]:
    """Run a stage of the table for one fold; its name is that of the mapped task."""
    get_current_context()["fold"] = fold
    result: dict[str, Any] = call(stage_named(stage_name).function, fold)
    return result


def connect(stages: Iterable[Stage], tasks: Mapping[str, Any]) -> None:
    """Set the task of each stage downstream of the tasks of the stages that it needs.

    Args:
        stages: rows of the table.
        tasks: task, or task group, by the name of its stage. Stages without a task are left out.
    """
    for stage in stages:
        for need in stage.needs:
            if stage.name in tasks and need in tasks and tasks[need] is not tasks[stage.name]:
                tasks[need] >> tasks[stage.name]


def planned() -> list[str]:
    """Plan the run's contracts and log what cannot be read.

    Raises:
        AirflowFailException: there is no contract. Mapped tasks over an empty list would end in a skipped, green run.
    """
    plan = call(pipeline.plan_contracts)
    for file in plan.get("unreadable", ()):
        log.warning("Unreadable, left out: %s (%s)", file["name"], file["reason"])
    for note in plan.get("notes", ()):
        log.info("Set apart: %s", note)
    if not plan["contracts"]:
        raise AirflowFailException("Expected at least one contract to work on; the plan has none.")
    return list(plan["contracts"])


def publish_reports() -> dict[str, Any]:
    """Publish the run's reports; skip the task if the run has no stored configuration, hence nothing to report."""
    if not open_lake().exists(layout.run_file(current_run(), layout.CONFIG)):
        raise AirflowSkipException("The run never started: there is nothing to report.")
    return call(pipeline.publish_reports, datetime.now(UTC))


def conclude(answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Promote the candidate, or carry out the answer to the request; return the decision.

    An answer that came from the command line in the meantime stays.

    Args:
        answer: what the form's operator returned; None if no approval was required. It has no user if nobody answered
            in time.
    """
    now = datetime.now(UTC)
    decision: dict[str, Any] = call(pipeline.promote, now)
    if answer is None or decision["state"] != "waiting":
        return decision
    user = answer.get("responded_by_user")
    if user is None:
        return call(pipeline.expire, now)
    stage = pipeline.approve if answer["chosen_options"] == [APPROVE] else pipeline.reject
    note = (answer.get("params_input") or {}).get("note") or ""
    return call(stage, now, name=user["name"], note=note, answered=answer["responded_at"])


@contextmanager
def recorded(run: str, stage: str, label: str = "") -> Iterator[None]:
    """Report the events of a stage; record its failure in the run's folder, or delete the record of an earlier one.

    A typed error states that data, settings or training are wrong, so the task fails at once. Any other error may be
    the machine's fault and keeps the task's retries. So do ``MachineError`` (a training was killed or out of memory, a
    GPU failed or is busy), ``ArtifactError`` (an artifact is absent or torn: another run may be writing it) and an
    exceeded time limit.

    Raises:
        AirflowFailException: the block raised a ``VpocError`` that no retry can correct.
    """
    from vpoc_ml.pipeline.run import record_failure, remove_failure

    begin = time.monotonic()
    _report(StageEvent("started", stage, label))
    try:
        yield
    except AirflowSkipException:
        _report(StageEvent("skipped", stage, label, time.monotonic() - begin))
        raise
    except (Exception, AirflowTaskTimeout) as error:
        _report(StageEvent("failed", stage, label, time.monotonic() - begin))
        if isinstance(error, AirflowTaskTimeout):
            error.args = (TIMED_OUT,)
        if not isinstance(error, LockLostError):  # the records are those of the task that took its place
            record_failure(open_lake(), run, stage, label, error)
        if isinstance(error, VpocError) and not isinstance(error, (ArtifactError, MachineError)):
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise
    remove_failure(open_lake(), run, stage, label)
    _report(StageEvent("finished", stage, label, time.monotonic() - begin))


def open_lake() -> Lake:
    """Return the lake of this process's environment."""
    from vpoc_ml.lake.store import Lake

    return Lake(lake_uri())


def _report(event: StageEvent) -> None:
    log.info("%s %s %s", event.stage, event.label, event.kind)
    notify(event)
