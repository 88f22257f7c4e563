"""### Nightly retraining of the model

Every weekday at 17:30 America/Chicago, after the exchange's close, this DAG turns the vendor's contract files and the
VIX closes into a model that is **promoted or explicitly rejected**, and scores the newest bars with the champion.

`resolve_config` → `plan_contracts` → one `ingest_contract` per contract → **gate: bars** → roll table → volume
profiles and features per contract → **gate: sessions** → **gate: features** → **gate: leakage** → training set →
**gate: training set** → one `train_fold` per walk-forward fold → track record → `train` (the shipped model, on all
sessions) → `evaluate` → **gate: candidate** → live records of champion and challengers → `decide` (the promotion rule,
with a second training of a candidate that passes everything else) → a person's approval, if the rule accepts the
candidate and `promotion.require_approval` is set → `promote` → `score` → **gate: predictions** →
**gate: monitoring** (drift, missing values, late data and the live skill of the champion, after all else is done).

* **Manual start:** every field of the form is one setting; section *Common* has the usual ones. An empty field keeps
  the preset's value. An unknown key of the conf or an invalid value fails the run at `resolve_config`; the error names
  the field, the value and its limits. The log of that task begins with what differs from the preset; the complete
  configuration follows. Later tasks use that copy.
* **A failed gate** fails the run at once, without retries. The reports are published all the same: see *Reports* in the
  menu and on the run.
* **Too few sessions** for warm-up, splits and embargoes fail the run at `build_rolls`, before profiles and features.
* **A rejected candidate** is a successful run: the champion stays, and `promote` returns the reasons. Nobody has to
  approve such a candidate.
* **Approval** waits twelve hours under *Browse*, *Required Actions*; after that the champion stays. Name, time and note
  of the answer go to the ledger and the report. `vpoc-ml approve` and `vpoc-ml reject` answer from the command line.
* **A past night:** fill in the field `session`, or start a backfill. The run uses only what was known at 17:30 Chicago
  of that day. Its decision is simulated and changes no champion.
* **Days without a session** are skipped.
* **Deadline:** a run that has not ended twelve hours after its start (`VPOC_DEADLINE_HOURS`) is marked in Airflow and
  on its reports page. It goes on; a task or run that exceeds its time limit is stopped.
* **Instrument:** ES, or the one that `VPOC_INSTRUMENT` names; the field `data.instrument` changes it for one run.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, result, task, task_group, teardown

from vpoc_airflow import alerts, stage_tasks, start, time_limits
from vpoc_airflow.schedule import NIGHTLY_CRON, TIMEZONE, dag_instrument
from vpoc_ml.pipeline.stages import STAGES

AFTER_APPROVAL = "none_failed_min_one_success"
OPTIONS: dict[str, dict[str, Any]] = {
    "track-record": {"trigger_rule": "none_failed"},
    "score": {"trigger_rule": AFTER_APPROVAL},
    "decide": stage_tasks.TRAINING,
}
"""Without folds the mapped task is skipped; what follows it runs all the same."""


@task
def resolve_config(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return start.resolve(params, dag_run)


@task
def plan_contracts() -> list[str]:
    return stage_tasks.planned()


@task
def run_stage(stage_name: str, contracts: list[str]) -> dict[str, Any]:
    return stage_tasks.run_stage(stage_name, contracts)


@task(map_index_template="{{ contract }}")
def run_contract_stage(stage_name: str, contract: str) -> dict[str, Any]:
    return stage_tasks.run_contract_stage(stage_name, contract)


@task
def build_rolls(contracts: list[str]) -> dict[str, Any]:
    from vpoc_ml import pipeline

    return stage_tasks.call(pipeline.build_rolls, list(contracts), last=STAGES[-1].name)


@task
def plan_folds() -> list[str]:
    return stage_tasks.planned_folds()


@task(map_index_template="fold {{ fold }}", **stage_tasks.TRAINING)
def train_fold(fold: str) -> dict[str, Any]:
    return stage_tasks.run_fold_stage("train-fold", fold)


@task(**stage_tasks.TRAINING)
def train(task_state_store: Any = None) -> dict[str, Any]:
    from vpoc_airflow.train import train as train_resumably

    return train_resumably(task_state_store)


@task.branch
def approval(decision: dict[str, Any]) -> str:
    return "approve" if decision["state"] == "waiting" else "promote"


@result
@task(trigger_rule=AFTER_APPROVAL)
def promote(ti: Any = None) -> dict[str, Any]:
    return stage_tasks.conclude(ti.xcom_pull(task_ids="approve"))


@teardown
def publish_reports() -> dict[str, Any]:
    return stage_tasks.publish_reports()


@dag(
    schedule=CronTriggerTimetable(NIGHTLY_CRON, timezone=TIMEZONE),
    start_date=None,  # a start date in the past would start a run as soon as the DAG appears
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=start.form_params(),
    default_args=stage_tasks.TASK_DEFAULTS,
    dagrun_timeout=time_limits.run_limit(),
    on_failure_callback=alerts.AlertNotifier(alerts.FAILED),
    on_success_callback=alerts.AlertNotifier(alerts.ENDED),
    deadline=time_limits.nightly_deadline(),
    doc_md=__doc__,
    tags=[dag_instrument().symbol, "nightly"],
)
def vpoc_nightly() -> None:
    config, contracts = resolve_config(), plan_contracts()
    tasks: dict[str, Any] = {"plan": contracts, "rolls": build_rolls(contracts), "train": train(), "promote": promote()}
    folds = plan_folds()
    tasks |= {"plan-folds": folds, "train-fold": train_fold.expand(fold=folds)}
    for scope, stages in groupby(STAGES[1:], key=lambda stage: stage.scope):
        if scope == "contract":
            chain = list(stages)
            tasks |= dict.fromkeys((stage.name for stage in chain), per_contract(chain, contracts))
            continue
        for stage in stages:
            if stage.name not in tasks:
                named = run_stage.override(task_id=stage.function_name, **OPTIONS.get(stage.name, {}))
                tasks[stage.name] = named(stage.name, contracts if scope == "contracts" else [])
    stage_tasks.connect([stage for stage in STAGES if stage.name != "promote"], tasks)

    approve = HITLOperator(
        task_id="approve",
        subject="Promote the candidate of {{ run_id }} to champion of {{ ti.xcom_pull(task_ids='decide')['key'] }}?",
        body=stage_tasks.REQUEST,
        options=[stage_tasks.APPROVE, stage_tasks.REJECT],
        params={"note": Param("", type=["null", "string"], description="Reason; goes to the ledger and the report.")},
        response_timeout=timedelta(hours=12),
        defaults=[stage_tasks.REJECT],
        notifiers=alerts.AlertNotifier(alerts.WAITING),
    )
    branch, reports = approval(tasks["decide"]), publish_reports()
    config >> contracts
    branch >> [approve, tasks["promote"]]
    approve >> tasks["promote"]
    # every task that may still run after another one has failed
    [tasks["ingest"], tasks["rolls"], tasks["features"], tasks["gate-monitoring"]] >> reports


def per_contract(stages: list[Any], contracts: Any) -> Any:
    """Return the mapped task of one stage, or the mapped task group ``contract`` of consecutive ones."""
    if len(stages) == 1:
        only = run_contract_stage.override(task_id=stages[0].function_name)
        return only.partial(stage_name=stages[0].name).expand(contract=contracts)

    @task_group(group_id="contract")
    def contract_group(contract: str) -> None:
        tasks = {
            stage.name: run_contract_stage.override(task_id=stage.function_name)(stage.name, contract)
            for stage in stages
        }
        stage_tasks.connect(stages, tasks)

    return contract_group.expand(contract=contracts)


vpoc_nightly()
