"""### One contract, from vendor file to features

One run builds one contract of the instrument, its **partition**: `ESH25`.

`resolve_config` → `plan_contracts` → `ingest_contract` → **gate: bars** → roll table → volume profile → features →
**gate: sessions** → **gate: features** → `contract_result`, the run's result: contract, configuration hash, rows, and
for each stage whether it ran and the reason.

* **Scheduled:** a contract runs on its roll day at 17:30 America/Chicago, after its last session as front contract.
* **Manual start:** *Trigger*, then enter the contract as *Partition Key*, or in the field `contract`. Airflow refuses a
  wrong key and shows the reason at the top of the dialog, above the form. The form has the settings that the stages of
  this DAG read; the conf accepts all. An empty field keeps the preset's value, and an invalid value fails the run at
  `resolve_config` with field, value and limits.
* **Backfill:** `make backfill FROM=2023-01-01 TO=2024-12-31`, *Backfill* under *Trigger*, or `airflow backfill create`.
  The dates select contracts by their roll day, both inclusive. Contracts that are not ready yet are left out.
* **Run again:** a backfill with reprocess behaviour *completed* (or *failed*) starts a second run beside the first;
  *clear* runs the first one again. Both skip every stage whose inputs, settings and code are unchanged.
* **Next contract:** its features read the last 30 sessions of this contract, so changed bars make them stale. This run
  rebuilds them too. Runs of several contracts may run at the same time, in any order, and beside the nightly run.
* **Instrument:** ES, or the one that `VPOC_INSTRUMENT` names.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, dag, result, task, teardown
from vpoc_timetable import ContractPartitionTimetable

from vpoc_airflow import alerts, contract_keys, stage_tasks, time_limits
from vpoc_airflow.schedule import dag_instrument, first_contract
from vpoc_ml.pipeline.stages import STAGES, stage_named

SYMBOL = dag_instrument().symbol
FEATURES = Asset(f"{SYMBOL.lower()}_features", uri=f"vpoc://{SYMBOL}/features", extra={"columns": "one row per bar"})
LAST = stage_named("gate-features")
"""The last stage of the run order that a run of one contract has."""


@task
def resolve_config(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return contract_keys.resolve(params, dag_run)


@task
def plan_contracts() -> list[str]:
    return stage_tasks.planned()


@task
def run_stage(stage_name: str, contracts: list[str]) -> dict[str, Any]:
    return stage_tasks.run_stage(stage_name, contracts)


@task
def run_contract_stage(stage_name: str, contract: str) -> dict[str, Any]:
    return stage_tasks.run_contract_stage(stage_name, contract)


@task
def build_features(contract: str) -> dict[str, Any]:
    from vpoc_ml import pipeline

    own = stage_tasks.call(pipeline.features_contract, contract)
    return {"features": own, "successor": stage_tasks.call(pipeline.features_successor, contract)}


@task
def gate_features(contract: str, built: dict[str, Any]) -> dict[str, Any]:
    from vpoc_ml import pipeline

    return stage_tasks.call(pipeline.gate_features, [contract, *built["successor"]["rebuilt"]])


@result
@task(outlets=[FEATURES])
def contract_result(
    started: dict[str, Any], stages: dict[str, Any], built: dict[str, Any], outlet_events: Any = None
) -> Any:
    found = contract_keys.contract_result(started, stages | built)
    outlet_events[FEATURES].add_partitions(found["contract"])
    outlet_events[FEATURES].extra = {key: found[key] for key in ("contract", "config_hash", "rows")}
    return found


@teardown
def publish_reports() -> dict[str, Any]:
    return stage_tasks.publish_reports()


@dag(
    schedule=ContractPartitionTimetable(first=first_contract(dag_instrument())),
    start_date=None,  # with a start date, the years since then would count as missed
    catchup=False,
    max_active_runs=4,
    is_paused_upon_creation=False,
    params=contract_keys.form_params(),
    default_args=stage_tasks.TASK_DEFAULTS,
    dagrun_timeout=time_limits.run_limit(),
    on_failure_callback=alerts.AlertNotifier(alerts.FAILED),
    doc_md=__doc__,
    tags=[SYMBOL, "contracts"],
)
def vpoc_contracts() -> None:
    started, planned, reports = resolve_config(), plan_contracts(), publish_reports()
    contract = started["contract"]
    built = build_features(contract)
    tasks: dict[str, Any] = {"plan": planned, "features": built, LAST.name: gate_features(contract, built)}
    stages = STAGES[: STAGES.index(LAST) + 1]
    for stage in stages:
        if stage.name not in tasks:
            one = stage.scope == "contract"
            named = (run_contract_stage if one else run_stage).override(task_id=stage.function_name)
            tasks[stage.name] = named(stage.name, contract if one else planned)
    stage_tasks.connect(stages, tasks)

    end = contract_result(started, {name: tasks[name] for name in ("ingest", "profile", "rolls")}, built)
    started >> planned
    tasks[LAST.name] >> end
    [tasks["ingest"], tasks["profile"], tasks["rolls"], end] >> reports  # tasks that may run after a failure


vpoc_contracts()
