"""### Weekly verification of the lake, and retention

Every Saturday at 06:00 America/Chicago, and whenever it is started manually. It reads and hashes every artifact of the
lake, every fold and every registered version, checks the ledger, and follows the lineage of each champion. A problem
fails the run; the log of `verify` has one line per problem with what to do. `vpoc-ml verify` does the same.

If the lake is sound and `VPOC_KEEP_NIGHTS` is set, `retain` deletes the training sets of older runs and the folds that
no kept run uses. What a champion of any time or a waiting candidate refers to stays, and so does every registered
version.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, result, task

from vpoc_airflow import alerts, maintenance, time_limits
from vpoc_airflow.schedule import MAINTENANCE_CRON, TIMEZONE, dag_instrument


@result
@task(retries=1)
def verify() -> dict[str, Any]:
    return maintenance.verify()


@task(retries=0)
def retain() -> dict[str, Any]:
    return maintenance.retain()


@dag(
    schedule=CronTriggerTimetable(MAINTENANCE_CRON, timezone=TIMEZONE),
    start_date=None,  # a start date in the past would start a run as soon as the DAG appears
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={
        "execution_timeout": time_limits.task_limit(),
        "on_failure_callback": alerts.AlertNotifier(alerts.FAILED),
    },
    dagrun_timeout=time_limits.run_limit(),
    on_failure_callback=alerts.AlertNotifier(alerts.FAILED),
    on_success_callback=alerts.AlertNotifier(alerts.ENDED),
    doc_md=__doc__,
    tags=[dag_instrument().symbol, "maintenance"],
)
def vpoc_maintenance() -> None:
    verify() >> retain()


vpoc_maintenance()
