"""Structure of the DAGs: light imports, form, schedule, and gates upstream of every end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vpoc_airflow.schedule import dag_instrument, first_contract
from vpoc_ml.config import form_fields
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.instruments import instrument
from vpoc_ml.pipeline.stages import STAGES, stage_named

HEAVY = ("torch", "pandas", "polars", "numba", "great_expectations", "mlflow", "sklearn", "scipy", "matplotlib")


def test_dag_folder_has_no_import_errors(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["vpoc_champion", "vpoc_contracts", "vpoc_maintenance", "vpoc_nightly", "vpoc_search"]


def test_what_a_stage_lost_or_assumed_is_in_the_log_of_its_task(airflow_home, monkeypatch, caplog):
    from vpoc_airflow import stage_tasks

    result = {"stage": "rolls", "lost": ["ESM24: no gap"], "steps": ["ESU24: gap of 50 points"], "rows_in": 3}
    monkeypatch.setattr(stage_tasks, "call", lambda function, *args: result)
    assert stage_tasks.run_stage("rolls", ["ESM24"]) == result
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Lost at a roll: ESM24: no gap"),
        ("WARNING", "Step at a roll, not measured: ESU24: gap of 50 points"),
    ]


@pytest.fixture(scope="module")
def heavy_imports(bag, airflow_home):
    """What of ``HEAVY`` each DAG file imports, one after the other in a fresh process: this one may have all of it."""
    files = {dag_id: dag.fileloc for dag_id, dag in bag.dags.items()}
    program = (
        "import importlib.util, json, sys\n"
        "import airflow.settings; airflow.settings.prepare_syspath_for_config_and_plugins()\n"
        "found = {}\n"
        f"for dag_id, file in {files!r}.items():\n"
        "    spec = importlib.util.spec_from_file_location(dag_id, file)\n"
        "    spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        f"    found[dag_id] = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('HEAVY ' + json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.rsplit("HEAVY ", 1)[1])


@pytest.mark.parametrize(
    "dag_id", ["vpoc_champion", "vpoc_contracts", "vpoc_maintenance", "vpoc_nightly", "vpoc_search"]
)
def test_dag_file_imports_nothing_heavy(heavy_imports, dag_id):
    assert heavy_imports[dag_id] == []


def test_dag_survives_serialization(dag):
    from airflow.serialization.serialized_objects import DagSerialization

    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert set(again.task_dict) == set(dag.task_dict)
    assert set(again.params) == set(dag.params)
    assert again.max_active_runs == 1
    assert not again.catchup


def test_schedule_is_every_weekday_after_the_close_in_chicago(dag):
    assert dag.timetable.expression == "30 17 * * 1-5"
    assert str(dag.timetable.timezone) in ("America/Chicago", "Timezone('America/Chicago')")


def test_form_has_every_setting_in_its_section_with_its_limits(dag):
    params = {name: dag.params.get_param(name) for name in dag.params}
    assert set(params) == {*form_fields(), "session", "raw", "vix", "overrides"}
    assert all(param.schema["section"] and param.description for param in params.values())
    assert params["training.epochs"].schema["minimum"] == 1
    assert params["training.epochs"].schema["section"] == "Common"
    assert params["training.batch_size"].schema["section"] == "Training"
    assert params["raw"].schema["section"] == "Run"
    sections = list(dict.fromkeys(param.schema["section"] for param in params.values()))
    assert sections[:4] == ["Common", "Run", "Data", "Ingest"]
    common = [name for name, param in params.items() if param.schema["section"] == "Common"]
    assert common[:2] == ["session", "preset"]
    assert 10 <= len(common) <= 12


def test_every_field_has_a_valid_default_so_that_the_schedule_works(dag):
    dag.params.validate()


def test_optional_choices_offer_the_value_of_the_preset_by_name(dag):
    schema = dag.params.get_param("promotion.require_approval").schema
    assert schema["enum"] == [None, True, False]
    assert schema["values_display"] == {"null": "as the preset says"}


def test_gates_are_upstream_of_every_end_of_the_dag(dag):
    ends = [task for task in dag.tasks if not task.is_teardown and all(t.is_teardown for t in task.downstream_list)]
    assert [task.task_id for task in ends] == ["gate_monitoring"]
    for gate in ("gate_bars", "gate_sessions", "gate_features", "gate_leakage", "gate_training_set", "gate_candidate"):
        assert gate in ends[0].get_flat_relative_ids(upstream=True)


def test_publish_reports_is_a_teardown_and_a_failed_run_stays_failed(dag):
    reports = dag.get_task("publish_reports")
    assert reports.is_teardown
    assert not reports.on_failure_fail_dagrun


@pytest.mark.parametrize("task_id", ["train", "train_fold"])
def test_training_waits_for_its_queue_and_is_repeated_soon_and_often(dag, task_id):
    train = dag.get_task(task_id)
    assert train.queue == "rocm"
    assert train.retries == 30
    assert train.retry_delay.total_seconds() == 15
    assert train.retry_exponential_backoff == 0


def test_result_of_the_run_is_the_promotion(dag):
    assert dag.get_task("promote").returns_dag_result


def test_every_stage_of_the_table_has_a_task_after_those_of_the_stages_it_needs(dag):
    ids = {task_id.rsplit(".", 1)[-1]: task_id for task_id in dag.task_dict}
    for stage in STAGES:
        upstream = dag.get_task(ids[stage.function_name]).get_flat_relative_ids(upstream=True)
        assert {ids[stage_named(need).function_name] for need in stage.needs} <= upstream


def test_instrument_of_the_environment_gives_schedule_names_and_tags(bag, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("VPOC_INSTRUMENT", "GC")
    gold = DagBag()
    assert gold.import_errors == {}
    assert sorted(gold.dags) == sorted(bag.dags)
    assert all("GC" in dag.tags and "ES" not in dag.tags for dag in gold.dags.values())
    contracts = gold.dags["vpoc_contracts"]
    assert contracts.timetable.serialize() == {"first": "GCU97"}
    assert [(asset.name, asset.uri) for asset in contracts.get_task("contract_result").outlets] == [
        ("gc_features", "vpoc://GC/features")
    ]


@pytest.mark.slow
def test_instrument_of_the_environment_is_the_runs_unless_the_form_names_one(run_dag, monkeypatch):
    monkeypatch.setenv("VPOC_INSTRUMENT", "NQ")
    assert run_dag(fail="input").fake.calls[0][1][1] == {"data.instrument": "NQ"}
    assert run_dag(fail="input", **{"data.instrument": "YM"}).fake.calls[0][1][1] == {"data.instrument": "YM"}


def test_unknown_instrument_is_rejected_with_the_known_ones(monkeypatch):
    monkeypatch.setenv("VPOC_INSTRUMENT", "XX")
    with pytest.raises(InvalidValueError, match=r"one of ES, .*GC"):
        dag_instrument()


def test_first_contract_is_the_first_delivery_month_from_september_1997():
    first = {symbol: first_contract(instrument(symbol)) for symbol in ("ES", "NQ", "CL", "GC")}
    assert first == {"ES": "ESU97", "NQ": "NQU97", "CL": "CLU97", "GC": "GCU97"}
