"""### One contract, from vendor file to features

One run builds one ES contract, its **partition**: `ESH25`.

`resolve_config` → `plan_contracts` → `ingest_contract` → **gate: bars** → volume profile and rolls → features →
**gate: features** → `outcome`, the run's result: contract, configuration hash, rows, and why each stage ran or not.

* **By itself** a contract runs on its roll day at 17:30 America/Chicago, when its last front session is over.
* **By hand:** *Trigger*, then the contract as *Partition Key*, or in the field `contract`. A wrong key is refused; the
  reason is at the top of the dialog, above the form. The form has every setting; an empty field means "as the preset
  says", and a wrong value fails the run at `resolve_config` with the field, the value and its limits.
* **Backfill:** `make backfill FROM=2023-01-01 TO=2024-12-31`, *Backfill* under *Trigger*, or `airflow backfill create`.
  The dates select contracts by their roll day, both inclusive; contracts that are not ready yet are left out.
* **Again:** a backfill with reprocess behaviour *completed* (or *failed*) starts a second run beside the first;
  *clear* runs the first one again. Either way a stage whose inputs, settings and code are unchanged is skipped.
* A contract whose bars changed makes the features of the next contract stale, because they read its last 30 sessions:
  this run rebuilds those too. Runs of several contracts may go at the same time, in any order, and beside the nightly.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, result, task, teardown
from vpoc_timetable import ContractPartitionTimetable

from vpoc_airflow import contract_keys, stage_tasks

FEATURES = Asset("es_features", uri="vpoc://ES/features", extra={"columns": "one row a bar"})


@task
def resolve_config(params: Any = None, dag_run: Any = None) -> dict[str, Any]:
    return contract_keys.resolve(params, dag_run)


@task
def plan_contracts() -> list[str]:
    return stage_tasks.planned()


@task
def run_stage(stage_name: str, contracts: str | list[str]) -> dict[str, Any]:
    if isinstance(contracts, str):
        return stage_tasks.call(stage_name, contracts, label=contracts)
    return stage_tasks.call(stage_name, list(contracts))


@task
def build_features(contract: str) -> dict[str, Any]:
    own, successor = (
        stage_tasks.call(name, contract, label=contract) for name in ("features_contract", "features_successor")
    )
    return {"features": own, "successor": successor}


@task
def gate_features(contract: str, built: dict[str, Any]) -> dict[str, Any]:
    return stage_tasks.call("gate_features", [contract, *built["successor"]["rebuilt"]])


@result
@task(outlets=[FEATURES])
def outcome(started: dict[str, Any], stages: dict[str, Any], built: dict[str, Any], outlet_events: Any = None) -> Any:
    found = contract_keys.outcome(started, stages | built)
    outlet_events[FEATURES].add_partitions(found["contract"])
    outlet_events[FEATURES].extra = {key: found[key] for key in ("contract", "config_hash", "rows")}
    return found


@teardown
def publish_reports() -> dict[str, Any]:
    stage_tasks.skip_unless_started()
    return stage_tasks.call("publish_reports", datetime.now(UTC))


@dag(
    schedule=ContractPartitionTimetable(first="ESU97"),
    start_date=None,  # with one, the years since would count as missed
    catchup=False,
    max_active_runs=4,
    is_paused_upon_creation=False,
    params=contract_keys.form_params(),
    default_args=stage_tasks.RETRIES,
    doc_md=__doc__,
    tags=["ES", "contracts"],
)
def vpoc_contracts() -> None:
    started, planned = resolve_config(), plan_contracts()
    contract = started["contract"]
    ingested = run_stage.override(task_id="ingest_contract")("ingest_contract", contract)
    profiled = run_stage.override(task_id="profile_contract")("profile_contract", contract)
    gate_bars, rolls = (run_stage.override(task_id=name)(name, planned) for name in ("gate_bars", "build_rolls"))
    built = build_features(contract)
    stages = {"ingest": ingested, "profile": profiled, "rolls": rolls}
    gate, told, reports = gate_features(contract, built), outcome(started, stages, built), publish_reports()

    started >> planned >> ingested >> gate_bars >> [profiled, rolls] >> built >> gate >> told
    [ingested, profiled, rolls, told] >> reports  # whatever may still run when another task has failed


vpoc_contracts()
