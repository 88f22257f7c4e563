"""The pages of requests for approval: the evidence, where to answer, and who answered what and when."""

import random
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from tests.evaluation.example_metrics import INTERVAL, example_metrics

from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.pages.approvals import ApprovalQuery, approval_page, approvals_page
from vpoc_ml.reports.pages.run import run_page
from vpoc_ml.reports.pages.tonight import TonightQuery, tonight_page
from vpoc_ml.reports.schedule import ApprovalRequest
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_reports import simulate_night

AT = datetime(2026, 5, 11, 22, 30, tzinfo=UTC)
KINDS = ("promoted", "rejected", "refused", "waiting")
RUNS = {kind: f"vpoc_nightly--{kind}" for kind in KINDS}
REQUESTED = ApprovalRequest(RUNS["waiting"], "/dags/vpoc_nightly/runs/waiting/tasks/approve/required_actions", AT)
ANSWERED = replace(
    REQUESTED,
    run=RUNS["promoted"],
    answered=AT + timedelta(hours=2),
    answer="Approve",
    user="ann",
    note="<costs> are covered",
)
EXPIRED = replace(REQUESTED, run=RUNS["rejected"], answered=AT + timedelta(hours=12), answer="Reject")


@pytest.fixture
def lake(tmp_path):
    made = Lake(tmp_path)
    for day, kind in enumerate(KINDS):
        simulate_night(made, RUNS[kind], AT + timedelta(days=day), random.Random(day), 3, 4, kind)
    gains = {"direction_accuracy_gain": INTERVAL, "rank_ic_gain": INTERVAL, "huber_gain": None}
    metrics = example_metrics(versus={"champion": gains}, backtest={"net": 4321.5})
    made.write_json(f"runs/{RUNS['waiting']}/metrics.json", metrics)
    return made


def site(lake, *requests):
    return Site(lake, AT + timedelta(days=4), base="/air/vpoc-reports", approvals=lambda: requests)


def text_of(page):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_the_decision_box_has_evidence_links_and_the_page_of_the_answer(lake):
    request = replace(REQUESTED, expires=AT + timedelta(hours=12))
    page = approval_page(site(lake, request), ApprovalQuery(run=RUNS["waiting"]))
    decision = lake.read_json(f"runs/{RUNS['waiting']}/decision.json")
    for path in (f"/runs/{RUNS['waiting']}", f"/models/{decision['version']}", "/models/4", "/approvals"):
        assert f'href="/air/vpoc-reports{path}"' in page
    assert f'<a class="button" target="_top" href="/air{request.path}">' in page
    shown = text_of(page)
    assert f"Promote version {decision['version']} to champion of ES-1m-rank?" in shown
    assert decision["checks"][0]["text"] in shown
    assert "$4,322" in shown
    assert "champion 2.00 [1.00, 3.00] 0.0200 [0.0100, 0.0300] n/a" in shown
    assert "Without an answer until 2026-05-12 05:30 CDT the champion stays." in shown
    assert "not yet" in shown


def test_answers_of_past_nights_state_who_answered_what_and_when(lake):
    page = approval_page(site(lake, ANSWERED), ApprovalQuery(run=RUNS["promoted"]))
    assert "2026-05-11 17:30 CDT 2026-05-11 19:30 CDT Approve ann <costs> are covered" in text_of(page)
    assert "<costs>" not in page
    assert 'class="button"' not in page
    expired = approval_page(site(lake, EXPIRED), ApprovalQuery(run=RUNS["rejected"]))
    assert "Reject nobody in time" in text_of(expired)
    assert "on the command line" not in text_of(expired)


def test_an_answer_of_the_command_line_comes_from_the_decision(lake):
    for requests in ((), (replace(REQUESTED, run=RUNS["rejected"]),)):
        page = approval_page(site(lake, *requests), ApprovalQuery(run=RUNS["rejected"]))
        assert "on the command line 2026-05-12 17:30 CDT rejected ann" in text_of(page)
        assert 'class="button"' not in page, "it was answered already"
    waiting = approval_page(site(lake), ApprovalQuery(run=RUNS["waiting"]))
    assert f"vpoc-ml approve {RUNS['waiting']} --as NAME" in waiting


def test_the_list_has_every_night_with_a_request(lake):
    page = approvals_page(site(lake, REQUESTED, ANSWERED), Query())
    shown = text_of(page)
    assert "Read the evidence and answer" in shown
    assert RUNS["refused"] not in page
    assert all(f"/approvals/{RUNS[kind]}" in page for kind in ("promoted", "rejected", "waiting"))
    assert "Approve ann <costs> are covered" in shown
    assert "No candidate waits" in text_of(approvals_page(site(Lake(lake.root / "none")), Query()))


def test_tonight_and_the_run_link_to_the_decision_box(lake):
    link = f'<a href="/air/vpoc-reports/approvals/{RUNS["waiting"]}">'
    assert f"{link}Evidence and answer</a>" in tonight_page(site(lake), TonightQuery())
    assert f"{link}Waits for approval</a>" in run_page(site(lake), RUNS["waiting"])


def test_a_run_without_a_decision_has_no_decision_box(lake):
    with pytest.raises(NoSuchPageError, match=r"a run of .* with a decision; found absent"):
        approval_page(site(lake), ApprovalQuery(run="absent"))
