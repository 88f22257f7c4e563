"""### Nightly retraining of the ES model

Every weekday at 17:30 America/Chicago, after the CME close, this DAG turns the vendor's contract files and the
VIX closes into a **promoted, or honestly refused, model** and scores the newest bars with the champion.

`resolve_config` → `plan_contracts` → one `ingest_contract` per contract → **gate: bars** → volume profiles and
features per contract, rolls → **gate: features** → **gate: leakage** → training set → **gate: training set** →
`train` → `evaluate` → `decide` (the promotion rule) → (a person's approval, where the rule accepts the candidate and
`promotion.require_approval` asks for it) → `promote` → `score`.

* **Start by hand:** every field of the form is one setting. An empty field means "as the preset says". A key of the
  conf that no field reads and a wrong value fail the run at `resolve_config`, which names the field, the value and its
  limits. It logs the whole configuration; later tasks use that copy.
* **A failed gate** fails the run at once; what needs a retry is the machine, not the data. The reports are published
  either way: see *Reports* in the menu and on the run.
* **Too few sessions** for warm-up, splits and embargoes fail the run at `build_rolls`, before profiles and features.
* **Refused** is a good end: the run succeeds, the champion stays, `promote` says why. Such a candidate never waits for
  a person.
* **Approval** waits twelve hours below *Browse*, *Required Actions*, then the champion stays. Name, time and note of
  the answer go to the ledger and the report. `vpoc-ml approve` and `vpoc-ml reject` answer from the command line.
* **A past night:** the field `session`, or a backfill. The run knows what was known at 17:30 Chicago of that day; its
  decision is simulated and changes no champion.
* **Days without a session** are skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, result, task, task_group, teardown

from vpoc_airflow import stage_tasks, start
from vpoc_airflow.approval import APPROVE, REJECT, REQUEST, conclude
from vpoc_ml import environment

NAMED = "{{ contract }}"
CONTRACT_LIST_STAGES = ("gate_bars", "gate_features", "gate_leakage", "build_training_set")


@task
def resolve_config(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return start.resolve(params, dag_run)


@task
def plan_contracts() -> list[str]:
    return stage_tasks.planned()


@task(map_index_template=NAMED)
def ingest_contract(contract: str) -> dict[str, Any]:
    return stage_tasks.call_for("ingest_contract", contract)


@task(map_index_template=NAMED)
def profile_contract(contract: str) -> dict[str, Any]:
    return stage_tasks.call_for("profile_contract", contract)


@task(map_index_template=NAMED)
def features_contract(contract: str) -> dict[str, Any]:
    return stage_tasks.call_for("features_contract", contract)


@task_group(group_id="contract")
def build_contract(contract: str) -> None:
    profile_contract(contract) >> features_contract(contract)


@task
def run_stage(stage_name: str, contracts: list[str]) -> dict[str, Any]:
    return stage_tasks.call(stage_name, list(contracts))


@task
def build_rolls(contracts: list[str]) -> dict[str, Any]:
    return stage_tasks.call("build_rolls", list(contracts), last="score")


@task
def gate_training_set() -> dict[str, Any]:
    return stage_tasks.call("gate_training_set")


@task(
    queue="rocm",
    pool=environment.read(environment.TRAIN_POOL) or "default_pool",
    executor=environment.read(environment.TRAIN_EXECUTOR),
)
def train(task_state_store: Any = None) -> dict[str, Any]:
    from vpoc_airflow.train import train as train_resumably

    return train_resumably(task_state_store)


@task
def evaluate() -> dict[str, Any]:
    return stage_tasks.call("evaluate")


@task
def decide() -> dict[str, Any]:
    return stage_tasks.call("decide", datetime.now(UTC))


@task.branch
def approval(decision: dict[str, Any]) -> str:
    return "approve" if decision["state"] == "waiting" else "promote"


@result
@task(trigger_rule="none_failed_min_one_success")
def promote(ti: Any = None) -> dict[str, Any]:
    return conclude(ti.xcom_pull(task_ids="approve"))


@task(trigger_rule="none_failed_min_one_success")
def score() -> dict[str, Any]:
    return stage_tasks.call("score", datetime.now(UTC))


@teardown
def publish_reports() -> dict[str, Any]:
    stage_tasks.skip_unless_started()
    return stage_tasks.call("publish_reports", datetime.now(UTC))


@dag(
    schedule=CronTriggerTimetable("30 17 * * 1-5", timezone="America/Chicago"),
    start_date=None,  # a first night in the past would start a run the moment the DAG appears
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=start.form_params(),
    default_args=stage_tasks.RETRIES,
    doc_md=__doc__,
    tags=["ES", "nightly"],
)
def vpoc_nightly() -> None:
    config, contracts = resolve_config(), plan_contracts()
    ingested = ingest_contract.expand(contract=contracts)
    stages = [run_stage.override(task_id=name)(name, contracts) for name in CONTRACT_LIST_STAGES]
    gate_bars, gate_features, gate_leakage, training_set = stages
    rolls = build_rolls(contracts)
    per_contract = build_contract.expand(contract=contracts)
    trained, evaluated, decided, promoted, scored = train(), evaluate(), decide(), promote(), score()
    branch = approval(decided)
    approve = HITLOperator(
        task_id="approve",
        subject="Promote the candidate of {{ run_id }} to champion of {{ ti.xcom_pull(task_ids='decide')['key'] }}?",
        body=REQUEST,
        options=[APPROVE, REJECT],
        params={"note": Param("", type=["null", "string"], description="Why; goes to the ledger and the report.")},
        response_timeout=timedelta(hours=12),
        defaults=[REJECT],
    )
    reports = publish_reports()

    # the features go on across the roll, so the roll table comes first
    config >> contracts >> ingested >> gate_bars >> rolls >> per_contract >> gate_features >> gate_leakage
    gate_leakage >> training_set >> gate_training_set() >> trained >> evaluated >> decided >> branch
    branch >> [approve, promoted]
    approve >> promoted
    [evaluated, promoted] >> scored
    [ingested, rolls, per_contract, scored] >> reports  # whatever may still run when a gate has failed


vpoc_nightly()
