"""The DAG of a search: its form, and runs with a fake pipeline."""

from __future__ import annotations

import json
from functools import partial

import pytest

from vpoc_ml.config import form_fields

pytestmark = pytest.mark.slow


@pytest.fixture
def search_dag(bag):
    assert bag.import_errors == {}
    return bag.dags["vpoc_search"]


@pytest.fixture
def run_search(search_dag, run_any):
    return partial(run_any, search_dag)


def test_the_search_is_started_manually_with_the_nightly_form_and_its_own_fields(search_dag, dag):
    assert not search_dag.timetable.can_be_scheduled
    settings = {name for name in form_fields() if not name.startswith(("promotion.", "scoring.", "monitoring."))}
    assert set(search_dag.params) == {*settings, "trials", "vary", "search_seed", "raw", "vix", "overrides"}
    assert next(iter(search_dag.params)) == "trials"
    search_dag.params.validate()
    assert search_dag.params["trials"] == 30
    assert search_dag.get_task("search").returns_dag_result
    assert search_dag.get_task("search").queue == dag.get_task("train").queue == "rocm"
    assert search_dag.get_task("search").retry_policy == dag.get_task("train").retry_policy


def test_dag_survives_serialization(search_dag):
    from airflow.serialization.serialized_objects import DagSerialization

    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(search_dag))
    assert set(again.task_dict) == {"resolve_config", "prepare", "search", "publish_reports"}


def test_a_run_builds_a_gated_training_set_and_searches_with_the_values_of_the_form(run_search, caplog):
    caplog.set_level("INFO")
    vary = ["training.learning_rate=1e-3..1e-2 log"]
    run = run_search(**{"preset": "smoke", "trials": 7, "vary": vary, "search_seed": 3, "training.epochs": 4})
    assert run.state == "success"
    assert run.fake.stages() == ["start_run", "run_until", "search", "publish_reports"]
    calls = {stage: args for stage, args, _ in run.fake.calls}
    assert calls["start_run"][:2] == ("smoke", {"training.epochs": 4})
    assert calls["run_until"][0] == "gate-training-set"
    assert calls["search"] == (7, vary, 3)
    assert run.returned["search"]["best"] == ["training.learning_rate=0.003"]
    assert f"Trial 0: rank IC on validation rows +0.01230 with {vary[0]}" in caplog.text


def test_empty_space_is_the_default_one(run_search):
    calls = {stage: args for stage, args, _ in run_search().fake.calls}
    assert calls["search"] == (30, (), 0)


@pytest.mark.parametrize("conf", [{"vary": ["dataset.horizon=1m|5m"]}, {"vary": ["training.rate=1..2"]}, {"trails": 7}])
def test_an_invalid_space_and_unknown_fields_are_rejected_before_any_work(run_search, conf):
    run = run_search(**conf)
    assert run.state == "failed"
    assert run.fake.stages() == []
    assert (run.folder / "failures" / "resolve_config.json").is_file()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"trials": "7", "search_seed": "1_000"}, (7, (), 1000)),
        ({"trials": None, "search_seed": None, "vary": ["", " "]}, (30, (), 0)),
        ({"trials": "1e2", "vary": ["training.epochs=1..3", ""]}, (100, ["training.epochs=1..3"], 0)),
    ],
)
def test_fields_of_a_search_may_be_text_or_empty(airflow_home, given, found):
    from vpoc_airflow.search import arguments

    assert arguments({"trials": 30, "search_seed": 0, "vary": None} | given) == found


@pytest.mark.parametrize("value", ["0", "1,000", "many", "10_001", -1])
def test_a_number_of_trials_outside_its_limits_is_rejected(airflow_home, value):
    from vpoc_airflow.search import arguments
    from vpoc_ml.errors import InvalidValueError

    with pytest.raises(InvalidValueError, match="trials to be a valid integer greater than or equal to 1 and less"):
        arguments({"trials": value, "search_seed": 0, "vary": None})


def test_wrong_number_fails_the_run_at_its_first_task_with_field_value_and_limits(run_search):
    run = run_search(search_seed="-1")
    assert run.state == "failed"
    assert run.fake.stages() == []
    record = json.loads((run.folder / "failures" / "resolve_config.json").read_text())
    assert "Expected search_seed to be a valid integer greater than or equal to 0" in record["message"]
    assert "was '-1'" in record["message"]
