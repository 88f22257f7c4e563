"""The table of nights: made of the runs' folders, rebuilt when lost, equal in a folder and in a store."""

import random
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.lake.store import Lake
from vpoc_ml.registry.ledger import Ledger, refused_nights
from vpoc_ml.reports.champions import ledger_entries, reigning_champions
from vpoc_ml.reports.nights import all_nights, night_of, read_nights, record_night
from vpoc_ml.reports.outcomes import is_nightly, outcome, shown_nights
from vpoc_ml.reports.pages.tonight import TonightQuery, tonight_page
from vpoc_ml.reports.schedule import Schedule, ScheduledRun
from vpoc_ml.reports.site import Site

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_reports import LATER, simulate_night

AT = datetime(2026, 5, 11, 22, 30, tzinfo=UTC)
NOW = AT + timedelta(days=6)
KINDS = ("promoted", "refused", "gate", "machine", "input", "rejected", "waiting")


def name(day):
    return f"vpoc_nightly--scheduled__{AT + timedelta(days=day):%Y-%m-%dT%H-%M-%S}-00-00--0000000{day}"


def night(lake, kind, day=0):
    simulate_night(lake, name(day), AT + timedelta(days=day), random.Random(day), 3, 4, kind)
    return name(day)


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


@pytest.fixture
def week(lake):
    """A lake with a night of each kind, oldest first."""
    for day, kind in enumerate(KINDS):
        night(lake, kind, day)
    return lake


def test_line_of_a_night_by_hand(lake):
    run = night(lake, "gate")
    line = night_of(lake, run)
    assert (line.run, line.preset, line.started, line.contracts) == (run, "nightly", AT, 3)
    failed = line.failed_gate
    assert (failed.passed, failed.critical, failed.worst["ESH24"]) == (False, 1, "critical")
    assert (line.failure.stage, line.failure.exit_code, line.failure.more) == (f"gate_{failed.gate}", 3, 0)
    assert line.pages == (("gates", f"reports/runs/{run}/gates.html"),)


def test_a_night_is_recorded_once_and_again_after_its_decision(week):
    run = name(6)
    record_night(week, run, NOW)
    assert list(read_nights(week)) == [run], "the others have been written a moment ago and are not settled"
    decision = week.read_json(f"runs/{run}/decision.json")
    week.write_json(f"runs/{run}/decision.json", decision | {"state": "promoted"})
    record_night(week, run, NOW)
    lines = week.read_text(layout.NIGHTS).splitlines()
    assert len(lines) == 1
    assert read_nights(week)[run].decision.state == "promoted"


@pytest.mark.parametrize("damage", [b"", b"{\n", b"\xff\xfe\n", b'{"run": 1}\n', b"null\n"])
def test_a_lost_or_damaged_table_is_made_again(week, damage):
    record_night(week, name(0), LATER)
    before = week.read_text(layout.NIGHTS)
    assert len(before.splitlines()) == len(KINDS)
    week.storage.write(layout.NIGHTS, damage)
    assert [each.run for each in all_nights(week).nights] == [name(day) for day in reversed(range(7))]
    record_night(week, name(0), LATER)
    assert week.read_text(layout.NIGHTS) == before


def test_a_page_reads_few_folders_and_says_how_many_are_left(week):
    table = all_nights(week, limit=2)
    assert [each.run for each in table.nights] == [name(6), name(5)]
    assert table.unread == 5
    assert all_nights(week, limit=2, wanted=lambda run: run < name(3)).unread == 1


def test_damaged_files_of_a_run_are_left_out_of_its_line(lake):
    run = night(lake, "refused")
    for file in ("config.json", "inputs.json", "decision.json", "stages/gate-bars.json", "stages/live-record.json"):
        lake.write_text(f"runs/{run}/{file}", "[1")
    line = night_of(lake, run)
    assert (line.preset, line.decision, line.live, line.newest_bar) == (None, None, None, None)
    assert [gate.gate for gate in line.gates] == ["features", "leakage", "training-set"]
    (lake.root / "runs" / "empty").mkdir()
    assert night_of(lake, "empty").gates == ()


def test_a_store_holds_the_same_table(bucket, lake):
    remote = Lake(f"{bucket}/es")
    for each in (lake, remote):
        for day, kind in enumerate(KINDS):
            night(each, kind, day)
        record_night(each, name(0), LATER)
    fixed = [
        [line.model_copy(update={"written": AT, "failure": None, "gates": ()}) for line in read_nights(each).values()]
        for each in (lake, remote)
    ]
    assert fixed[0] == fixed[1]
    assert len(fixed[0]) == len(KINDS)


def test_outcome_of_each_kind_of_night(week):
    shown = shown_nights(all_nights(week).nights, None, NOW)
    assert [(each.kind, each.words) for each in reversed(shown)] == [
        ("promoted", "promoted"),
        ("refused", "refused"),
        ("failed at a gate", f"failed at gate {night_of(week, name(2)).failed_gate.gate}"),
        ("failed on the machine", "failed on the machine: train"),
        ("failed", "failed: plan_contracts"),
        ("rejected", "rejected by ann"),
        ("waiting", "waiting for approval"),
    ]


RUN = ScheduledRun("n", "vpoc_nightly", "n", "success", AT)


@pytest.mark.parametrize(
    ("run", "kind", "words"),
    [
        (replace(RUN, state="failed", failed=("a", "b")), "failed on the machine", "failed on the machine: a"),
        (replace(RUN, state="failed"), "failed on the machine", "failed on the machine: no task ended"),
        (replace(RUN, skipped=True), "skipped", "skipped: no session on this day"),
        (replace(RUN, state="running"), "running", "running"),
        (replace(RUN, state="queued"), "running", "queued"),
        (replace(RUN, state="running", waiting=True), "waiting", "waiting for approval"),
        (RUN, "unfinished", "ended without a decision"),
    ],
)
def test_outcome_of_a_run_that_left_nothing_is_what_the_scheduler_knows(run, kind, words):
    assert outcome(None, run, NOW) == (kind, words)


def test_a_run_of_the_command_line_without_a_decision_is_running_for_some_hours(lake):
    lake.write_json("runs/by-hand/inputs.json", {"started": AT.isoformat(), "as_of": None})
    line = night_of(lake, "by-hand")
    assert outcome(line, None, line.written + timedelta(hours=5))[0] == "running"
    assert outcome(line, None, line.written + timedelta(hours=7))[0] == "unfinished"


def test_past_night_and_override_are_named(lake):
    line = night_of(lake, night(lake, "promoted"))
    past = line.model_copy(
        update={"decision": line.decision.model_copy(update={"simulated": True, "state": "accepted"})}
    )
    assert outcome(past, None, NOW) == ("simulated", "past night: would be promoted")
    person = {"override": True, "person": "ann"}
    by_hand = line.model_copy(update={"decision": line.decision.model_copy(update=person)})
    assert outcome(by_hand, None, NOW) == ("promoted", "promoted against the rule by ann")


def test_runs_of_other_dags_are_no_nights():
    nightly, others = ("vpoc_nightly--a", "by-hand", "may--x"), ("vpoc_contracts--a", "vpoc_search--a")
    assert all(map(is_nightly, nightly))
    assert not any(map(is_nightly, others))


def page_of(lake, schedule=None, query=None, now=NOW, registry=None):
    return tonight_page(Site(lake, now, registry=registry, schedule=lambda: schedule), query or TonightQuery())


def step(page):
    return page.partition("What to do next: ")[2].partition("</p>")[0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("gate", "Open the gates page"),
        ("machine", "The machine or the program failed."),
        ("input", "Deliver or correct the input"),
        ("waiting", "Answer the request for approval of run vpoc_nightly--"),
        ("refused", "Nothing is promoted yet"),
    ],
)
def test_next_step_follows_from_the_newest_night(lake, kind, expected):
    night(lake, kind, 5)
    assert step(page_of(lake)).startswith(expected)


def test_next_step_of_a_lake_with_a_champion(lake, tmp_path):
    ledger = Ledger(tmp_path / "registry" / layout.LEDGER)
    ledger.append("promote", version=4, key="ES-1m-rank", actor="ann", now=AT)
    night(lake, "refused", 5)
    registry = tmp_path / "registry"
    assert step(page_of(lake, registry=registry)) == "Nothing: the next night starts by itself."
    page = page_of(lake, registry=registry)
    assert "Champion of ES-1m-rank</dt><dd>version 4" in page
    assert "6 days old, since" in page
    assert step(page_of(lake, Schedule(paused=True), registry=registry)).startswith("Unpause the DAG")
    assert step(page_of(lake, registry=registry, now=NOW + timedelta(days=9))).startswith("Check the scheduler")
    running = ScheduledRun("x", "vpoc_nightly", "x", "running", NOW)
    assert step(page_of(lake, Schedule((running,)), registry=registry)).startswith("Wait: the run")
    bars = lake.read_json(f"runs/{name(5)}/stages/gate-bars.json")
    lake.write_json(f"runs/{name(5)}/stages/gate-bars.json", bars | {"age_sessions": 3})
    assert "was 3 sessions old" in step(page_of(lake, registry=registry))
    (registry / layout.LEDGER).write_bytes(b"{}\n")
    assert "Restore the ledger from a backup" in step(page_of(lake, registry=registry))


def test_ten_refusals_in_a_row_suggest_a_search(lake, tmp_path):
    registry = tmp_path / "registry"
    ledger = Ledger(registry / layout.LEDGER)
    key = lake.read_json(f"runs/{night(lake, 'refused', 5)}/decision.json")["key"]
    ledger.append("promote", version=1, key=key, now=AT - timedelta(days=20))
    for day in range(10):
        assert step(page_of(lake, registry=registry)).startswith("Nothing: the next night")
        for hour in (0, 1):  # twice on one night counts once
            at = AT + timedelta(days=day - 10, hours=hour)
            ledger.append("refuse", version=2, key=key, now=at)
    ledger.append("refuse", version=3, key="NQ-1m-rank", now=AT)
    assert "10 nights in a row were refused" in step(page_of(lake, registry=registry))
    assert refused_nights(ledger.entries(), key) == 10
    ledger.append("expire", version=2, key=key, now=AT)
    assert refused_nights(ledger.entries(), key) == 0


def test_champion_is_the_one_that_a_rollback_restored(tmp_path):
    ledger = Ledger(tmp_path / layout.LEDGER)
    for version in (4, 7):
        ledger.append("promote", version=version, key="ES-1m-rank", now=AT)
    ledger.append("rollback", version=4, key="ES-1m-rank", actor="ann", now=NOW)
    (found,) = reigning_champions(ledger_entries(tmp_path))
    assert (found.version, found.since, found.actor) == (4, NOW, "ann")
    assert ledger_entries(tmp_path / "none") == ledger_entries(None) == []
    assert reigning_champions([]) == ()
    assert not (tmp_path / "none").exists()


def test_page_shows_the_decision_and_filters_the_list(week):
    page = page_of(week)
    assert page.count('<li><a class="cell ') == len(KINDS)
    assert "7 nights, newest first." in page
    assert "Waiting for approval: version " in page
    refused = page_of(week, query=TonightQuery(outcome="refused"))
    assert "1 night, newest first." in refused
    assert "<option selected>refused</option>" in refused
    assert "No night has this outcome" in page_of(week, query=TonightQuery(preset="<none>"))


def test_gates_are_in_the_order_in_which_they_run_whatever_the_files_say(lake):
    run = night(lake, "refused")
    (lake.root / "runs" / run / "stages" / "gate-bars.json").touch()  # as after a copy of the lake
    site = Site(lake, NOW, gates=("bars", "features", "leakage", "training-set"))
    page = tonight_page(site, TonightQuery())
    assert re.findall(r'<li><a href="[^"]*/gates/[^"]*">([\w-]+)</a>', page) == list(site.gates)


def test_page_of_an_empty_lake_says_how_to_begin(lake):
    page = page_of(lake)
    assert step(page).startswith("Put the vendor")
    assert "No run has left anything to report yet." in page


def test_names_are_escaped_on_the_page(lake):
    run = "vpoc_nightly--<script>"
    simulate_night(lake, run, AT, random.Random(1), 1, 0, "gate")
    lake.write_json(f"runs/{run}/config.json", {"preset": "<script>"})
    assert "<script>" not in page_of(lake)
