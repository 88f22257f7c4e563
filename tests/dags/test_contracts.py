"""The DAG of one contract: its structure, and runs with a fake pipeline."""

from __future__ import annotations

import json

import pytest

from vpoc_ml import config
from vpoc_ml.config import form_fields

pytestmark = pytest.mark.slow

WORK = ["ingest_contract", "gate_bars", "profile_contract", "build_rolls", "features_contract", "features_successor"]


# ---------------------------------------------------------------- shape


def test_the_schedule_is_one_run_per_contract_without_catchup(contracts_dag):
    assert contracts_dag.timetable.partitioned
    assert contracts_dag.timetable.serialize() == {"first": "ESU97"}
    assert not contracts_dag.catchup
    assert contracts_dag.start_date is None
    assert contracts_dag.max_active_runs == 4
    assert contracts_dag.is_paused_upon_creation is False


def test_dag_survives_serialization_with_its_timetable(contracts_dag):
    from airflow.serialization.serialized_objects import DagSerialization

    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(contracts_dag))
    assert set(again.task_dict) == set(contracts_dag.task_dict)
    assert again.timetable.resolve_partition_date("ESH25").isoformat() == "2025-03-17T22:30:00+00:00"


def test_the_form_has_the_contract_and_leaves_out_the_settings_that_follow_from_it(contracts_dag):
    params = set(contracts_dag.params)
    read = ("preset", "data.", "ingest.", "profile.", "features.", "quality.", "machine.chunk_rows")
    settings = {name for name in form_fields() if name.startswith(read)} - {"data.contracts", "data.instrument"}
    assert params == {*settings, "machine.docs_limit", "contract", "raw", "vix", "overrides"}
    contracts_dag.params.validate()
    assert contracts_dag.params.get_param("contract").schema["section"] == "Common"


def test_conf_may_change_a_setting_that_the_form_does_not_show(run_contract):
    run = run_contract(contract="ESH25", **{"training.epochs": 3})
    assert run.state == "success"
    assert run.fake.calls[0][1][1]["training.epochs"] == 3


def test_gates_are_upstream_of_the_end_and_reports_a_teardown(contracts_dag):
    end = contracts_dag.get_task("contract_result")
    assert end.returns_dag_result
    assert {"gate_bars", "gate_sessions", "gate_features"} <= end.get_flat_relative_ids(upstream=True)
    assert [task.task_id for task in contracts_dag.tasks if task.is_teardown] == ["publish_reports"]
    assert not contracts_dag.get_task("publish_reports").on_failure_fail_dagrun


def test_machine_errors_are_retried_as_in_the_nightly(contracts_dag, dag):
    for task in contracts_dag.tasks:
        assert (task.retries, task.retry_exponential_backoff) == (2, 2.0)
        assert task.retry_policy == dag.get_task("evaluate").retry_policy


def test_features_are_an_asset(contracts_dag):
    assert [asset.name for asset in contracts_dag.get_task("contract_result").outlets] == ["es_features"]


# ---------------------------------------------------------------- a run


def test_a_run_builds_the_contract_of_its_conf_and_returns_its_config_hash(run_contract):
    done = run_contract(
        contracts=["ESH25"], contract="ES 03-25", **{"profile.value_area": 0.68, "overrides": {"model.dropout": 0.1}}
    )
    assert done.state == "success"
    preset, overrides, raw, vix, now, as_of = done.fake.calls[0][1]
    settings = {"profile.value_area": 0.68, "model.dropout": 0.1, "data.contracts": ["ESH25"], "data.instrument": "ES"}
    assert (preset, overrides, raw, vix) == ("nightly", settings, None, None)
    assert now.tzinfo is not None
    assert as_of is None
    contract_result = done.returned["contract_result"]
    assert contract_result["contract"] == "ESH25"
    assert contract_result["config_hash"] == config.resolve("nightly", settings).digest()
    assert contract_result["rows"] == 100
    assert contract_result["stages"]["features"]["reason"] == "new"
    json.dumps(contract_result)


def test_stages_run_in_order_and_for_this_contract_only(run_contract):
    done = run_contract(contracts=["ESH25"], contract="ESH25")
    stages = done.fake.stages()
    assert sorted(stages[2:8]) == sorted(WORK)
    assert stages[:2] == ["start_run", "plan_contracts"]
    assert stages[-3:] == ["gate_sessions", "gate_features", "publish_reports"]
    assert stages.index("gate_bars") < min(stages.index("profile_contract"), stages.index("build_rolls"))
    assert max(stages.index("profile_contract"), stages.index("build_rolls")) < stages.index("features_contract")
    arguments = {stage: args for stage, args, _ in done.fake.calls}
    assert arguments["ingest_contract"] == arguments["features_contract"] == ("ESH25",)
    assert arguments["gate_bars"] == arguments["gate_sessions"] == (["ESH25"],)


def test_a_rebuilt_successor_is_validated_too(run_contract):
    done = run_contract(contracts=["ESH25"], contract="ESH25")
    assert {stage: args for stage, args, _ in done.fake.calls}["gate_features"] == (["ESH25", "ESM25"],)


@pytest.mark.parametrize(
    ("conf", "error", "text"),
    [
        ({}, "ConfigError", "Partition Key such as ESH25"),
        ({"contract": "ESF25"}, "ContractCodeError", "ESF25"),
        ({"contract": "ESH25", "data.contracts": "ESM25"}, "InvalidValueError", "follows from the contract"),
        (
            {"contract": "ESH25", "overrides": {"data.contracts": ["ESM25"]}},
            "InvalidValueError",
            "follows from the contract",
        ),
        ({"contract": "ESH25", "training.epoch": 1}, "UnknownKeyError", "training.epochs"),
        ({"contract": "ESH25", "session": "2025-03-17"}, "UnknownKeyError", "session"),
    ],
)
def test_a_run_without_valid_contract_or_settings_fails_and_names_the_cause(run_contract, conf, error, text):
    done = run_contract(**conf)
    assert done.state == "failed"
    assert done.fake.stages() == []
    record = json.loads((done.folder / "failures" / "resolve_config.json").read_text())
    assert record["error"] == error
    assert text in record["message"]
    assert done.states["publish_reports", ""] == "skipped"


def test_a_failed_gate_fails_the_run_without_a_result_and_still_publishes(run_contract):
    done = run_contract("gate", ["ESH25"], contract="ESH25")
    assert done.state == "failed"
    assert done.states["contract_result", ""] == "upstream_failed"
    assert done.states["publish_reports", ""] == "success"


def test_an_artifact_that_another_run_is_writing_is_retried(run_contract, fakes, monkeypatch, contracts_dag):
    from datetime import timedelta

    from vpoc_ml.errors import ArtifactError

    monkeypatch.setitem(fakes.FAILURES, "torn", ("build_rolls", ArtifactError("bars", "an artifact", "none")))
    monkeypatch.setattr(contracts_dag.get_task("build_rolls"), "retry_delay", timedelta(0))
    assert run_contract("torn", ["ESH25"], contract="ESH25").fake.stages().count("build_rolls") == 3


# ---------------------------------------------------------------- key and conf


@pytest.mark.parametrize(
    ("key", "param", "code"), [("ESH25", None, "ESH25"), (None, "ES 03-25", "ESH25"), ("ESH25", "ESH2025", "ESH25")]
)
def test_the_contract_is_that_of_the_partition_key_else_of_the_conf(key, param, code):
    from vpoc_airflow.contract_keys import contract_of

    assert contract_of(key, param).code == code


def test_key_and_conf_that_name_two_contracts_are_rejected():
    from vpoc_airflow.contract_keys import contract_of
    from vpoc_ml.errors import InvalidValueError

    with pytest.raises(InvalidValueError, match="ESH25"):
        contract_of("ESH25", "ESM25")
