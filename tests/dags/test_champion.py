"""The DAG that changes a champion by hand: its form, and what it requires of the pipeline."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from vpoc_ml import pipeline
from vpoc_ml.artifacts.stage_results import DecisionResult, RollbackResult

pytestmark = pytest.mark.slow

REASONS = ("The evidence is 2 to 1.",)


@pytest.fixture
def champion_dag(bag):
    assert bag.import_errors == {}
    return bag.dags["vpoc_champion"]


@pytest.fixture
def run_champion(champion_dag, run_any, fakes, monkeypatch):
    """Run the DAG with a pipeline whose candidate is refused unless the rule is overridden."""

    def promote_by_hand(self, lake, run, now, reason, name, override):
        state, absent = "promoted" if override else "refused", dict.fromkeys(("champion_before", "remark", "approval"))
        return DecisionResult(state=state, promote=False, reasons=REASONS, version=2, **absent)

    def rollback(self, lake, reason, now, key, name, expected):
        return RollbackResult(key="ES-1m-rank", champion=1, run="first", reason=reason)

    monkeypatch.setattr(fakes.FakePipeline, "promote_by_hand", promote_by_hand, raising=False)
    monkeypatch.setattr(fakes.FakePipeline, "rollback", rollback, raising=False)
    # Airflow 3.3: ``dag.test`` cannot call back at the end of a run whose DAG has a param without a default
    monkeypatch.setattr("airflow.models.dagrun.DagRun.execute_dag_callbacks", lambda *args, **kwargs: None)
    return partial(run_any, champion_dag)


def test_it_is_started_manually_and_requires_a_reason(champion_dag):
    assert not champion_dag.timetable.can_be_scheduled
    params = {name: champion_dag.params.get_param(name) for name in champion_dag.params}
    assert list(params) == ["action", "reason", "run", "version", "key", "override", "name"]
    assert all(param.description for param in params.values())
    assert params["reason"].schema["minLength"] == 1
    assert not params["reason"].has_value
    assert {task.retries for task in champion_dag.tasks} == {0}


def test_a_rollback_waits_neither_for_a_gpu_nor_for_a_promotion(champion_dag):
    queues = {task.task_id: task.queue for task in champion_dag.tasks}
    assert queues == {"read_request": "default", "promote": "rocm", "rollback": "default"}
    assert champion_dag.max_active_runs > 1
    assert champion_dag.get_task("promote").max_active_tis_per_dag == 1, "promotions follow one another"


def test_an_override_names_the_person_and_the_user_who_triggered_the_run(run_champion):
    run = run_champion(action="promote", run="second", reason="wrong feed", override=True, name="anna")
    assert run.state == "success"
    ((stage, (_, reason), kwargs),) = run.fake.calls
    assert (stage, reason, kwargs) == (
        "promote_by_hand",
        "wrong feed",
        {"name": "anna (user dag_test)", "override": True},
    )
    assert run.returned["promote"]["state"] == "promoted"
    assert run.states["rollback", ""] == "skipped"


def test_a_refused_candidate_fails_the_run_with_the_reasons(run_champion):
    run = run_champion(action="promote", run="second", reason="please")
    assert run.state == "failed"
    assert run.fake.calls[0][2] == {"name": "dag_test", "override": False}
    failure = (run.folder / "failures" / "promote.json").read_text()
    assert "it is refused. The evidence is 2 to 1." in failure


def test_a_rollback_takes_the_champion_that_it_removes(run_champion):
    run = run_champion(action="rollback", reason="drift", version=2, key="ES-1m-rank")
    assert run.state == "success"
    ((stage, (_, key), kwargs),) = run.fake.calls
    assert (stage, key, kwargs) == ("rollback", "ES-1m-rank", {"name": "dag_test", "expected": 2})
    assert run.returned["rollback"] == {"key": "ES-1m-rank", "champion": 1, "run": "first", "reason": "drift"}
    assert run.states["promote", ""] == "skipped"


@pytest.mark.parametrize("conf", [{}, {"run": "second", "version": 2}, {"run": "second", "overide": True}])
def test_an_incomplete_request_changes_nothing(run_champion, conf):
    run = run_champion(action="promote", reason="please", **conf)
    assert run.state == "failed"
    assert run.fake.calls == []


@pytest.mark.parametrize(
    ("name", "user", "actor"),
    [("anna", "admin", "anna (user admin)"), ("anna", "anna", "anna"), (" ", "admin", "admin"), ("anna", None, "anna")],
)
def test_the_ledger_names_the_person_and_the_user(airflow_home, name, user, actor):
    from vpoc_airflow.champion import actor_of

    assert actor_of(name, user) == actor


def test_the_candidate_of_a_version_is_found_in_the_registry(airflow_home, monkeypatch):
    from contextlib import nullcontext

    from vpoc_airflow import champion

    requested = []
    decision = DecisionResult(
        state="promoted", promote=True, reasons=(), version=7, champion_before=None, remark=None, approval=None
    )
    monkeypatch.setattr(champion.stage_tasks, "recorded", lambda *names: nullcontext())
    monkeypatch.setattr(champion.stage_tasks, "current_run", lambda: "by-hand")
    monkeypatch.setitem(vars(pipeline), "run_of_version", lambda lake, version, key: f"run {version} {key}")
    monkeypatch.setitem(
        vars(pipeline), "promote_by_hand", lambda lake, run, *_, **__: requested.append(run) or decision
    )
    conf = {"action": "promote", "reason": "r", "version": 7, "key": "ES-1m-rank"}
    params = {"run": None, "name": None, "override": False} | conf
    champion.promote(params, SimpleNamespace(conf=conf, triggering_user_name="anna"))
    assert requested == ["run 7 ES-1m-rank"]
