"""Runs of the nightly DAG with a fake pipeline."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from .conftest import run_fake

pytestmark = pytest.mark.slow

BEFORE_GATE = Counter(
    start_run=1,
    plan_contracts=1,
    ingest_contract=2,
    gate_bars=1,
    build_rolls=1,
    profile_contract=2,
    features_contract=2,
    gate_sessions=1,
)


CONF = {"preset": "smoke", "raw": "/vendor", "training.epochs": 3, "model.hidden_dims": [16, 8]}


@pytest.fixture(scope="module")
def night(bag, fakes, synced_once, tmp_path_factory):
    """A run that nothing disturbed, with fields of the form and overrides in its conf."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("night")
        overrides = {"training.epochs": 4, "training.learning_rate": 1e-4}
        return run_fake(fakes, patch, place, bag.dags["vpoc_nightly"], overrides=overrides, **CONF)


def test_a_run_calls_every_stage_once_and_succeeds(night, fakes):
    assert night.state == "success"
    calls = Counter(night.fake.stages())
    assert calls == Counter({stage: 1 for stage in fakes.STAGES if stage != "summarize"}) + Counter(
        ingest_contract=1, profile_contract=1, features_contract=1, train_fold=1
    )
    order = night.fake.stages()
    assert order.index("gate_bars") < order.index("profile_contract") < order.index("gate_features")
    assert order[-1] == "publish_reports"
    assert not list(night.folder.glob("failures/*"))


def test_the_start_gets_preset_overrides_paths_and_an_aware_clock(night):
    preset, overrides, raw, vix, now, as_of = night.fake.calls[0][1]
    assert (preset, raw, vix) == ("smoke", "/vendor", None)
    assert overrides == {"training.epochs": 4, "training.learning_rate": 1e-4, "model.hidden_dims": [16, 8]}
    assert now.tzinfo is not None
    assert as_of is None


def test_mapped_tasks_have_the_name_of_their_contract(night):
    assert night.states["ingest_contract", "ESH25"] == "success"
    assert night.states["contract.features_contract", "ESM25"] == "success"
    assert night.states["train_fold", "fold ESH25"] == night.states["train_fold", "fold ESM25"] == "success"


def test_a_run_without_folds_trains_on_one_split(run_dag, fakes, monkeypatch):
    monkeypatch.setattr(fakes, "FOLDS", [])
    run = run_dag()
    assert run.state == "success"
    assert "train_fold" not in run.fake.stages()
    assert run.states["train", ""] == run.states["build_track_record", ""] == "success"


def test_after_a_failed_gate_only_the_reports_are_published(run_dag):
    run = run_dag(fail="gate")
    assert run.state == "failed"
    assert Counter(run.fake.stages()) == BEFORE_GATE + Counter(gate_features=1, publish_reports=1)
    assert run.states["train", ""] == run.states["score", ""] == "upstream_failed"
    assert run.states["publish_reports", ""] == "success"
    record = json.loads((run.folder / "failures" / "gate_features.json").read_text())
    assert (record["error"], record["exit_code"]) == ("GateFailedError", 3)


@pytest.mark.parametrize(("fail", "stage", "code"), [("training", "train", 4), ("program", "evaluate", 1)])
def test_typed_errors_and_programming_errors_are_not_retried(run_dag, fail, stage, code):
    run = run_dag(fail=fail)
    assert run.state == "failed"
    assert run.fake.stages().count(stage) == 1
    assert json.loads((run.folder / "failures" / f"{stage}.json").read_text())["exit_code"] == code


def test_machine_errors_are_retried(run_dag, dag, fakes, monkeypatch):
    from datetime import timedelta

    monkeypatch.setattr(dag.get_task("evaluate"), "retry_delay", timedelta(0))
    monkeypatch.setitem(fakes.FAILURES, "machine", ("evaluate", OSError("disk is away")))
    run = run_dag(fail="machine")
    assert run.state == "failed"
    assert run.fake.stages().count("evaluate") == 3


def test_unknown_key_of_the_conf_fails_at_once_and_names_the_nearest(run_dag):
    run = run_dag(**{"training.epoch": 3})
    assert run.state == "failed"
    assert run.fake.stages() == []
    record = json.loads((run.folder / "failures" / "resolve_config.json").read_text())
    assert record["error"] == "UnknownKeyError"
    assert "Did you mean training.epochs" in record["message"]
    assert run.states["publish_reports", ""] == "skipped"


def test_plan_without_contracts_fails_instead_of_skipping_everything(run_dag):
    run = run_dag(contracts=[])
    assert run.state == "failed"
    assert "ingest_contract" not in run.fake.stages()


def test_training_stores_checkpoint_pointer_with_fingerprint(night):
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session

    from vpoc_ml.config.overrides import read_config
    from vpoc_ml.training.launch.run_inputs import run_fingerprint

    with create_session() as session:
        rows = session.query(TaskStateStoreModel).filter_by(task_id="train", key="checkpoint").all()
    pointer = json.loads(rows[-1].value)
    assert pointer["epoch"] == 1
    assert pointer["path"].endswith("step-000000000001.ckpt")
    assert run_fingerprint(night.folder, read_config(night.folder)) in {
        json.loads(row.value)["fingerprint"] for row in rows
    }


def test_the_champion_is_scored_also_after_a_rejected_promotion(night):
    assert night.states["approve", ""] == "skipped"
    assert night.states["promote", ""] == night.states["score", ""] == "success"


def test_the_log_of_the_start_begins_with_what_differs_from_the_preset(run_dag, caplog):
    caplog.set_level("INFO")
    run_dag(fail="input", raw="/vendor", overrides={"training.seed": 9})
    lines = [record.getMessage() for record in caplog.records if record.name == "vpoc_airflow.start"]
    assert lines[:3] == [
        "Changed against preset nightly: 2 value(s)",
        "  training.seed: 9 (nightly: 7)",
        "  raw: /vendor",
    ]
