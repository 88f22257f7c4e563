"""A run of one contract: its contract, its configuration and its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpoc_airflow import stage_tasks, start
from vpoc_ml.config import setting_keys
from vpoc_ml.errors import ConfigError, InvalidValueError
from vpoc_ml.market.contracts import Contract, parse_contract

OWN_SETTINGS = ("data.contracts", "data.instrument")
"""Settings that follow from the contract; a run must not set them."""

SETTINGS = ("data", "ingest", "profile", "features", "quality", "machine.chunk_rows", "machine.docs_limit")
"""Sections and settings that the stages up to the features read."""
COMMON = (
    "data.vix",
    "ingest.reader",
    "ingest.timezone",
    "ingest.label_side",
    "ingest.quarantine_limit",
    "features.extras",
    "quality.level",
    "machine.chunk_rows",
)
"""Settings of the form's first section."""

CONTRACT: start.Fields = {
    "contract": {
        "type": ["null", "string"],
        "description": "Contract to build, such as ESH25, where the run has no Partition Key. Airflow refuses a wrong"
        " key before the run starts and shows the reason at the top of this dialog.",
    },
}
SHOWN = ("rows_in", "rows_out", "quarantined", "skipped", "reason", "rebuilt")


def form_params() -> dict[str, Any]:
    """Return the params of a DAG whose runs are contracts: they end with the features."""
    return start.form_params(CONTRACT, SETTINGS, COMMON, OWN_SETTINGS)


def resolve(params: Mapping[str, Any], dag_run: Any) -> dict[str, Any]:
    """Check the run's conf and contract, resolve and store its configuration; return it with the ``contract``."""
    with stage_tasks.recorded(stage_tasks.current_run(), "resolve_config"):
        params = start.with_conf(params, dag_run.conf, [*form_params(), *setting_keys()])
        settings = start.overrides(params)
        for key in OWN_SETTINGS:
            if key in settings:
                raise InvalidValueError(key, settings[key], "empty: it follows from the contract")
        contract = contract_of(dag_run.partition_key, params["contract"])
        settings |= {"data.contracts": [contract.code], "data.instrument": contract.root}
    return {"contract": contract.code, **start.begin(params, settings, dag_run.start_date or dag_run.run_after)}


def contract_of(partition_key: str | None, param: str | None) -> Contract:
    """Return the contract of a run: that of its partition key, else the one that its conf names.

    Raises:
        ConfigError: neither is given.
        InvalidValueError: they name two contracts.
        ContractCodeError: the name cannot be read.
    """
    if not partition_key and not param:
        raise ConfigError(
            "Expected the contract of this run; found none. Start the run with a Partition Key such as ESH25,"
            " or fill in its field 'contract'."
        )
    contract = parse_contract(partition_key or str(param), where="partition key" if partition_key else "contract")
    if param and parse_contract(param, where="contract") != contract:
        raise InvalidValueError("contract", param, f"empty or the partition key, {contract.code}")
    return contract


def contract_result(started: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the run's result: contract, configuration, rows, and for each stage what it did and the reason."""
    return {
        "contract": started["contract"],
        "config_hash": started["config_hash"],
        "rows": stages["features"]["rows_out"],
        "skipped": all(result.get("skipped", False) for result in stages.values()),
        "stages": {name: {key: found[key] for key in SHOWN if key in found} for name, found in stages.items()},
    }
