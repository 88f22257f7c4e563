"""The request for approval before a promotion: when it is made, its form, and the effect of each answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

pytestmark = pytest.mark.slow

ANSWERED = datetime(2026, 3, 3, 7, 15, tzinfo=UTC)
ANNA = {"id": "1", "name": "anna"}


@pytest.fixture
def answer(dag, monkeypatch):
    """Answer the form as a person would, without a scheduler."""

    def set_answer(chosen: str, user: dict | None = ANNA, note: str | None = "costs are covered") -> None:
        response = {"chosen_options": [chosen], "params_input": {"note": note}, "responded_by_user": user}
        monkeypatch.setattr(dag.get_task("approve"), "execute", lambda context: response | {"responded_at": ANSWERED})

    return set_answer


def answers(run) -> list[tuple[str, dict]]:
    return [(stage, kwargs) for stage, _, kwargs in run.fake.calls if stage in ("approve", "reject", "expire")]


@pytest.mark.parametrize(("chosen", "stage"), [("Approve", "approve"), ("Reject", "reject")])
def test_answer_is_carried_out_with_name_note_and_time(run_dag, answer, chosen, stage):
    answer(chosen)
    run = run_dag(state="waiting")
    assert run.state == "success"
    assert answers(run) == [(stage, {"name": "anna", "note": "costs are covered", "answered": ANSWERED})]
    assert run.states["score", ""] == "success"
    assert run.fake.stages()[-1] == "publish_reports"


def test_answer_without_a_note_is_carried_out(run_dag, answer):
    answer("Reject", note=None)
    assert answers(run_dag(state="waiting")) == [("reject", {"name": "anna", "note": "", "answered": ANSWERED})]


def test_an_answer_without_a_user_is_a_timeout(run_dag, answer):
    answer("Reject", user=None)
    run = run_dag(state="waiting")
    assert answers(run) == [("expire", {})]
    assert run.states["score", ""] == "success"


@pytest.mark.parametrize("state", ["refused", "accepted"])
def test_no_approval_is_requested_if_the_rule_rejects_or_none_is_required(run_dag, state):
    run = run_dag(state=state)
    assert run.states["approve", ""] == "skipped"
    assert answers(run) == []
    assert run.state == run.states["promote", ""] == run.states["score", ""] == "success"


def test_the_form_shows_the_evidence_links_the_pages_and_takes_a_note(dag):
    approve = dag.get_task("approve")
    assert "ti.xcom_pull(task_ids='decide')['evidence']" in approve.body
    assert "/vpoc-reports/run/{{ dag.dag_id }}/{{ run_id | urlencode }}" in approve.body
    assert approve.options == ["Approve", "Reject"]
    assert approve.defaults == ["Reject"]
    assert approve.params.get_param("note").schema["type"] == ["null", "string"]
