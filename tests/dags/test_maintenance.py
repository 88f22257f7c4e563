"""The weekly DAG: a sound lake, and one with a problem."""

from __future__ import annotations

from functools import partial

import pytest

from vpoc_ml.artifacts.verification import Problem, Verification

pytestmark = pytest.mark.slow
COUNTS = {"entries": 1, "versions": 1, "artifacts": 2, "folds": 0, "champions": 1}


@pytest.fixture
def run_weekly(bag, run_any, fakes, monkeypatch):
    """Run the DAG on a lake with these problems."""

    def run(*problems: Problem):
        found = Verification(**COUNTS, problems=problems)
        monkeypatch.setitem(fakes.pipeline.OPERATIONS, "verify", "verification")
        monkeypatch.setattr(fakes.FakePipeline, "function", partial(lambda result, *_: lambda lake: result, found))
        return run_any(bag.dags["vpoc_maintenance"])

    return run


def test_it_runs_every_saturday_morning_in_chicago(bag):
    assert bag.dags["vpoc_maintenance"].timetable.expression == "0 6 * * 6"


def test_a_sound_lake_is_a_successful_run(run_weekly):
    run = run_weekly()
    assert run.state == "success"
    assert run.returned["verify"] == {**COUNTS, "problems": []}
    assert run.states["retain", ""] == "skipped"  # without VPOC_KEEP_NIGHTS


def test_nothing_is_deleted_from_a_damaged_lake(run_weekly, monkeypatch):
    monkeypatch.setenv("VPOC_KEEP_NIGHTS", "90")
    run = run_weekly(Problem(place="a", found="b", remedy="c"))
    assert run.states["retain", ""] == "upstream_failed"


def test_a_problem_fails_the_run_and_is_named(run_weekly, caplog):
    run = run_weekly(Problem(place="bars/ES/ESH25.parquet", found="found none", remedy="Build it anew."))
    assert run.state == "failed"
    line = "bars/ES/ESH25.parquet: found none. Build it anew."
    assert line in caplog.text
    assert line in (run.folder / "failures" / "verify.json").read_text()
