"""What every task of the DAG does: find the run's folder, call one pipeline function, translate its errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from vpoc_airflow.env import lake_uri
from vpoc_ml.errors import ArtifactError, MachineError, VpocError
from vpoc_ml.pipeline.run_names import run_folder

if TYPE_CHECKING:
    from vpoc_ml.lake.store import Lake

log = logging.getLogger(__name__)

PROGRAM_ERRORS: list[type[BaseException] | str] = [AssertionError, AttributeError, ImportError, LookupError, TypeError]
RETRIES = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": ExceptionRetryPolicy([RetryRule(PROGRAM_ERRORS, RetryAction.FAIL, reason="the program is wrong")]),
}
"""Default arguments of every task: the machine's faults are retried, the program's are not."""

Event = dict[str, Any]
observers: list[Callable[[Event], None]] = []
"""Called in the task's own process with every event: ``started``, ``finished``, ``failed``, ``progress``."""


def current_run() -> str:
    """Return the folder name of the run whose task is executing."""
    context = get_current_context()
    return run_folder(context["dag"].dag_id, context["run_id"])


def run_dir(run: str) -> Path:
    """Return the local folder of a run: in the lake, or its mirror where the lake is an object store."""
    return Path(_lake().folder(f"runs/{run}"))


def failures(lake: str, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """Return the records of what failed in a run."""
    from vpoc_ml.lake.store import Lake

    opened, folder = Lake(lake), f"runs/{run_folder(dag_id, run_id)}/failures"
    return [opened.read_json(key) for key in sorted(opened.storage.version_tokens(folder))]


def call(stage: str, *args: Any, label: str = "", **kwargs: Any) -> dict[str, Any]:
    """Call ``vpoc_ml.pipeline.<stage>(lake, run, *args, **kwargs)`` for the current run and return its JSON.

    A typed error is a verdict about data, settings or training: the task fails at once. Anything else may be
    the machine's fault and keeps the task's retries, and so do a training process that was killed, a card that is
    busy, and an artifact that is absent or torn: another run may be writing it. All leave a record in the run's
    ``failures`` folder. ``label`` tells mapped calls of one stage apart.

    Raises:
        AirflowFailException: the stage raised a ``VpocError`` that no retry can mend.
    """
    from vpoc_ml import pipeline

    run = current_run()
    with recorded(run, stage, label):
        result: dict[str, Any] = getattr(pipeline, stage)(lake_uri(), run, *args, **kwargs)
    return result


def call_for(stage: str, contract: str) -> dict[str, Any]:
    """Call a stage for one contract and show the contract's code as the name of the mapped task."""
    get_current_context()["contract"] = contract
    return call(stage, contract, label=contract)


def planned() -> list[str]:
    """Plan the run's contracts and log what cannot be read.

    Raises:
        AirflowFailException: no contract is left; mapped tasks over nothing would end in a skipped, green run.
    """
    plan = call("plan_contracts")
    for file in plan.get("unreadable", ()):
        log.warning("Unreadable, left out: %s (%s)", file["name"], file["reason"])
    for note in plan.get("notes", ()):
        log.info("Set apart: %s", note)
    if not plan["contracts"]:
        raise AirflowFailException("Expected at least one contract to work on; the plan has none.")
    return list(plan["contracts"])


def skip_unless_started() -> None:
    """Skip the current task when the run has no stored configuration, so that there is nothing to report."""
    if not _lake().exists(f"runs/{current_run()}/config.json"):
        raise AirflowSkipException("The run never started: there is nothing to report.")


@contextmanager
def recorded(run: str, stage: str, label: str = "") -> Iterator[None]:
    """Tell the observers what happens and keep a failure's class, text and exit code in the run's folder."""
    record = f"runs/{run}/failures/{'.'.join(filter(None, (stage, label)))}.json"
    begin = time.monotonic()
    notify("started", stage, label)
    try:
        yield
    except AirflowSkipException:
        notify("skipped", stage, label, seconds=time.monotonic() - begin)
        raise
    except Exception as error:
        notify("failed", stage, label, seconds=time.monotonic() - begin, error=str(error))
        _write_failure(record, stage, label, error)
        if isinstance(error, VpocError) and not isinstance(error, (ArtifactError, MachineError)):
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise
    _lake().storage.delete(record)
    notify("finished", stage, label, seconds=time.monotonic() - begin)


def notify(kind: str, stage: str, label: str = "", **data: Any) -> None:
    """Send one event to the observers and the task's log."""
    event = {"kind": kind, "stage": stage, "label": label, **data}
    if kind != "progress":
        log.info("%s %s %s", stage, label, kind)
    for observer in observers:
        observer(event)


def _write_failure(record: str, stage: str, label: str, error: Exception) -> None:
    code = error.exit_code if isinstance(error, VpocError) else 1
    content = {"stage": stage, "label": label, "error": type(error).__name__, "message": str(error), "exit_code": code}
    _lake().write_json(record, content)


def _lake() -> Lake:
    from vpoc_ml.lake.store import Lake

    return Lake(lake_uri())
