"""Alerts of the DAGs: one notifier, attached to the end of every run and to every task's final failure.

Airflow calls it on workers and in the DAG processor. It finds the cause in the records of the run's folder, records the
alert in the lake and hands it to the channels. It raises nothing: an alert must not change a run.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier
from airflow.sdk.configuration import conf

from vpoc_airflow.schedule import dag_instrument
from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.alert import Alert, AlertKind, AlertRecord, AlertRules
from vpoc_ml.broker import TRAIN_QUEUE, served_queues
from vpoc_ml.errors import GateFailedError, VpocError
from vpoc_ml.reports.schedule import NIGHTLY

if TYPE_CHECKING:
    from vpoc_ml.artifacts.run_summary import StageFailure
    from vpoc_ml.lake.store import Lake

log = logging.getLogger(__name__)

FAILED, ENDED, WAITING = "failed", "ended", "waiting"
ANSWER_SECONDS = 3.0
"""How long workers may take to say which queues they serve."""
SHOWN = 3
"""Failures that a message names."""
CHANGING = re.compile(r"\b[A-Z0-9]{1,3}[FGHJKMNQUVXZ]\d{1,4}\b|\b[0-9a-f]{8,}\b|\d+")
"""What differs between repetitions of one failure: contracts, hashes and numbers."""
TIMED_OUT = (
    f"The run did not end within its limit: Airflow has stopped it. {environment.RUN_TIMEOUT_HOURS} moves the limit."
)


class AlertNotifier(BaseNotifier):  # type: ignore[misc]  # Airflow has no types
    """Raises the alerts of one event: a task or run ``failed``, a run ``ended`` well, an approval is ``waiting``.

    Constructed while a DAG file is read, so that a wrong setting is an import error of the DAG.
    """

    def __init__(self, event: str) -> None:
        super().__init__()
        self.event = event
        self.rules = AlertRules.read()

    def notify(self, context: Any) -> None:
        """Raise the alerts of the event; whatever goes wrong is logged."""
        try:
            {FAILED: failed, ENDED: ended, WAITING: waiting}[self.event](context, self.rules)
        except Exception:
            log.exception("The alerts of event %r could not be raised", self.event)


def failed(context: Mapping[str, Any], rules: AlertRules) -> None:
    """Alert about a task that has failed for good, or about a run: ``context`` has a ``reason`` then."""
    dag, run_id = context["dag"].dag_id, context["run_id"]
    raised(failure_alert(_lake(), dag, run_id, context), rules)


def ended(context: Mapping[str, Any], rules: AlertRules) -> None:
    """Alert about what a run gives reason to that has ended well, and about causes that are resolved."""
    from vpoc_airflow.stage_tasks import open_lake
    from vpoc_ml.pipeline.alert_log import resolve
    from vpoc_ml.pipeline.night_alerts import missed_alert, missed_nights, night_alerts

    dag, run_id, now, lake = context["dag"].dag_id, context["run_id"], datetime.now(UTC), open_lake()
    found: list[Alert] = []
    checked = [f"{kind}:{dag}:" for kind in (AlertKind.FAILED, AlertKind.GATE_FAILED)]
    if dag == NIGHTLY:
        tonight = night_alerts(lake, layout.dag_run_name(dag, run_id), rules)
        if tonight is None:
            return
        found += tonight
        checked += [f"{kind}:" for kind in (AlertKind.STALE_DATA, AlertKind.DECAY, AlertKind.NO_WORKER)]
    if nights := missed_nights(lake, NIGHTLY, dag_instrument().calendar, now):
        found.append(missed_alert(nights, NIGHTLY))
    found += resolve(lake, checked, [alert.cause for alert in found], now)
    for alert in found:
        own = {"run": None} if alert.kind == AlertKind.RESOLVED else {"run": run_id}
        raised(alert.model_copy(update={"dag": dag, "page": page_of(dag, run_id), **own}), rules)


def waiting(context: Mapping[str, Any], rules: AlertRules) -> None:
    """Alert about a candidate that waits for a person's approval."""
    dag, run_id = context["dag"].dag_id, context["run_id"]
    until = context["task"].response_timeout
    limit = f" for {until.total_seconds() / 3600:g} hours; then the champion stays" if until else ""
    alert = Alert(
        kind=AlertKind.WAITING,
        cause=f"{AlertKind.WAITING}:{dag}:{run_id}",
        dag=dag,
        run=run_id,
        title="A candidate waits for approval",
        found=f"The promotion rule accepts the candidate of this run. It waits{limit}.",
        remedy="Read the report and answer in Airflow under Browse, Required Actions, or with `vpoc-ml approve` and"
        " `vpoc-ml reject`.",
        page=page_of(dag, run_id),
    )
    raised(alert, rules)


def training_worker_missing(dag: str, run_id: str) -> None:
    """Alert about a run whose trainings no living worker would take; raises nothing.

    The run would wait for such a worker for hours, and nobody would know until its deadline. Workers are asked only
    where the trainings run on Celery.
    """
    executor = environment.read(environment.TRAIN_EXECUTOR) or conf.get("core", "executor").split(",")[0]
    if "CeleryExecutor" not in executor:
        return
    try:
        if TRAIN_QUEUE in served_queues(conf.get("celery", "broker_url"), ANSWER_SECONDS):
            return
        alert = Alert(
            kind=AlertKind.NO_WORKER,
            cause=f"{AlertKind.NO_WORKER}:{TRAIN_QUEUE}",
            dag=dag,
            run=run_id,
            title="No worker takes trainings",
            found=f"No living worker serves queue {TRAIN_QUEUE}. The trainings of this run will wait for one.",
            remedy=f"Start the GPU worker: `docker compose up -d worker-{TRAIN_QUEUE}`, elsewhere `airflow celery"
            f" worker --queues {TRAIN_QUEUE}`. The run then goes on by itself.",
            page=page_of(dag, run_id),
        )
        raised(alert, AlertRules.read())
    except Exception:
        log.exception("It is not known whether a worker serves queue %s", TRAIN_QUEUE)


def deadline_missed(dag: str, run_id: str, message: str) -> None:
    """Alert about a run that has not ended by its deadline; raises nothing."""
    alert = Alert(
        kind=AlertKind.DEADLINE,
        cause=f"{AlertKind.DEADLINE}:{dag}",
        dag=dag,
        run=run_id,
        title=f"{dag} missed its deadline",
        found=message,
        remedy="Open the run in Airflow. A task that is queued waits for a worker or for the pool; one that runs has a"
        " log. A run without a started task waits for the scheduler or for another run of the DAG.",
        page=page_of(dag, run_id),
    )
    try:
        raised(alert, AlertRules.read())
    except Exception:
        log.exception("The missed deadline could not be reported")


def failure_alert(lake: Lake | None, dag: str, run_id: str, context: Mapping[str, Any]) -> Alert:
    """Return the alert about a failed task or run, from the records of its folder, else from Airflow's context."""
    from vpoc_ml.reports.run_state import ADVICE, OTHER_ADVICE

    failures = _failures(lake, layout.dag_run_name(dag, run_id), context)
    first, reason = (failures[0] if failures else None), context.get("reason")
    remedy = ADVICE.get(first.exit_code, OTHER_ADVICE) if first else OTHER_ADVICE
    kind, detail = AlertKind.FAILED, ""
    if reason == "timed_out":
        title, found = f"{dag} exceeded its time limit", TIMED_OUT
    elif first is None:
        task = getattr(context.get("task_instance"), "task_id", None)
        title = f"{dag} failed" + (f" at {task}" if task else "")
        found = str(context.get("exception") or f"Airflow reports {reason}; no task has recorded an error.")
    elif first.exit_code == GateFailedError.exit_code:
        kind, detail = AlertKind.GATE_FAILED, _failed_checks(lake, layout.dag_run_name(dag, run_id), first.stage)
        title, found = f"{dag}: {first.stage} failed", first.message
    else:
        label = f" of {first.label}" if first.label else ""
        title, found = f"{dag} failed at {first.stage}{label}: {first.error}", _listed(failures)
    key = f"{first.stage if first else ''} {first.error if first else ''} {detail or CHANGING.sub('#', found)}"
    cause = f"{kind}:{dag}:{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    page = page_of(dag, run_id)
    return Alert(kind=kind, cause=cause, dag=dag, run=run_id, title=title, found=found, remedy=remedy, page=page)


def _failures(lake: Lake | None, run: str, context: Mapping[str, Any]) -> list[StageFailure]:
    """Return the recorded failures that count: of a task its own, of a run all but a missed deadline."""
    from vpoc_airflow.time_limits import DEADLINE
    from vpoc_ml.pipeline.run import read_failures

    if lake is None:
        return []
    try:
        recorded = [each for each in read_failures(lake, run) if each.stage != DEADLINE]
    except (VpocError, OSError, ValueError) as error:
        log.warning("The failures of run %s cannot be read: %s", run, error)
        return []
    if "reason" in context:
        return recorded
    function = context["task_instance"].task_id.rpartition(".")[2]  # without the task group
    return [each for each in recorded if each.stage == function]


def _failed_checks(lake: Lake | None, run: str, function: str) -> str:
    """Return column and check of every critical failure of a gate: its cause, whatever the rows of the night."""
    from vpoc_ml.pipeline.stages import stage_of_function

    try:
        record = (lake and lake.read_json(layout.stage_key(run, stage_of_function(function).name))) or {}
        critical = [each for each in record.get("failures", ()) if each["severity"] == "critical"]
        return ", ".join(sorted({f"{each['column']} {each['check']}" for each in critical}))
    except (VpocError, OSError, LookupError) as error:
        log.warning("The failed checks of %s cannot be read: %s", function, error)
        return ""


def _listed(failures: Sequence[StageFailure]) -> str:
    shown = [each.message if len(failures) == 1 else f"{each.label or each.stage}: {each.message}" for each in failures]
    more = [f"And {len(failures) - SHOWN} more."] if len(failures) > SHOWN else []
    return "\n".join([*shown[:SHOWN], *more])


def page_of(dag: str, run_id: str) -> str:
    """Return the address of a run's reports page; without ``[api] base_url`` that of this machine."""
    base = conf.get("api", "base_url", fallback="") or "http://localhost:8080"
    return f"{base.rstrip('/')}/vpoc-reports/run/{quote(dag)}/{quote(run_id)}"


def raised(alert: Alert, rules: AlertRules) -> AlertRecord | None:
    """Raise an alert of this process's lake through the configured channels."""
    from vpoc_airflow.alert_channels import deliver
    from vpoc_ml.pipeline.alert_log import raise_alert

    return raise_alert(_lake(), alert, datetime.now(UTC), rules, deliver)


def _lake() -> Lake | None:
    """Return the lake of this process's environment; None, logged, where it cannot be opened: alerts go out anyway."""
    from vpoc_airflow.stage_tasks import open_lake

    try:
        return open_lake()
    except (VpocError, OSError) as error:
        log.error("The lake cannot be opened: %s", error)
        return None
