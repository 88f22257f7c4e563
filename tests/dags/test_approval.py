"""Who is asked before a promotion, what they see, and what is done with each answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

ANSWERED = datetime(2026, 3, 3, 7, 15, tzinfo=UTC)
ANNA = {"id": "1", "name": "anna"}


@pytest.fixture
def answer(dag, monkeypatch):
    """Let the form be answered as a person would, without a scheduler."""

    def set_answer(chosen: str, user: dict | None = ANNA, note: str | None = "costs are covered") -> None:
        response = {"chosen_options": [chosen], "params_input": {"note": note}, "responded_by_user": user}
        monkeypatch.setattr(dag.get_task("approve"), "execute", lambda context: response | {"responded_at": ANSWERED})

    return set_answer


def asked(run) -> list[tuple[str, dict]]:
    return [(stage, kwargs) for stage, _, kwargs in run.fake.calls if stage in ("approve", "reject", "expire")]


@pytest.mark.parametrize(("chosen", "stage"), [("Approve", "approve"), ("Reject", "reject")])
def test_answer_is_carried_out_with_name_note_and_time(run_dag, answer, chosen, stage):
    answer(chosen)
    run = run_dag(state="waiting")
    assert run.state == "success"
    assert asked(run) == [(stage, {"name": "anna", "note": "costs are covered", "answered": ANSWERED})]
    assert run.states["score", ""] == "success"
    assert run.fake.stages()[-1] == "publish_reports"


def test_answer_without_a_note_is_carried_out(run_dag, answer):
    answer("Reject", note=None)
    assert asked(run_dag(state="waiting")) == [("reject", {"name": "anna", "note": "", "answered": ANSWERED})]


def test_answer_of_nobody_is_a_timeout(run_dag, answer):
    answer("Reject", user=None)
    run = run_dag(state="waiting")
    assert asked(run) == [("expire", {})]
    assert run.states["score", ""] == "success"


@pytest.mark.parametrize("state", ["refused", "accepted"])
def test_nobody_is_asked_where_the_rule_refuses_or_no_approval_is_required(run_dag, state):
    run = run_dag(state=state)
    assert run.states["approve", ""] == "skipped"
    assert asked(run) == []
    assert run.state == run.states["promote", ""] == run.states["score", ""] == "success"


def test_form_shows_the_evidence_links_to_the_pages_and_takes_a_note(dag):
    approve = dag.get_task("approve")
    assert "ti.xcom_pull(task_ids='decide')['evidence']" in approve.body
    assert "/vpoc-reports/run/{{ dag.dag_id }}/{{ run_id | urlencode }}" in approve.body
    assert approve.options == ["Approve", "Reject"]
    assert approve.defaults == ["Reject"]
    assert approve.params.get_param("note").schema["type"] == ["null", "string"]
