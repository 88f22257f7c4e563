"""### Promotion and rollback by hand

Started manually; it has no schedule. The form takes an action, a reason and your name.

* **promote:** the promotion rule decides anew about the candidate of `run` or `version`. With `override` the candidate
  becomes champion also if the rule refuses it. Ledger, `decision.json` and report then say so, with name and reason. A
  failed gate cannot be overridden. A refused candidate fails the run; the reasons are in the error.
* **rollback:** restores the previous champion of `key`. Give the current champion as `version`: if the request is
  repeated by mistake, it then fails instead of removing another champion.
* **Name:** an empty field means the user of Airflow who triggered the run. The ledger records that user in any case.
* **Where it runs:** a promotion may train the candidate a second time, so it waits for a GPU. A rollback does not: it
  runs on any worker, also while a training or another promotion goes on.
* **Who may do this:** whoever may trigger this DAG (see *Promotion*, *By hand*, in the documentation).
* **No retries:** a request that failed is repeated by a person.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, result, task

from vpoc_airflow import alerts, champion, stage_tasks, time_limits
from vpoc_airflow.schedule import dag_instrument


@task.branch
def read_request(params: Any = None, dag_run: Any = None) -> str:
    return champion.action(params, dag_run)


@result
@task(**(stage_tasks.TRAINING | {"retries": 0, "max_active_tis_per_dag": 1}))
def promote(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return champion.promote(params, dag_run)


@result
@task
def rollback(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return champion.rollback(params, dag_run)


@dag(
    schedule=None,
    catchup=False,
    is_paused_upon_creation=False,
    params=champion.form_params(),
    default_args={
        "execution_timeout": time_limits.task_limit(),
        "on_failure_callback": alerts.AlertNotifier(alerts.FAILED),
    },
    dagrun_timeout=time_limits.run_limit(),
    on_failure_callback=alerts.AlertNotifier(alerts.FAILED),
    doc_md=__doc__,
    tags=[dag_instrument().symbol, "champion"],
)
def vpoc_champion() -> None:
    read_request() >> [promote(), rollback()]


vpoc_champion()
