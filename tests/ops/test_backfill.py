"""The commands behind `make backfill` and `make contract`, with an Airflow that is made up."""

from __future__ import annotations

import json

import pytest

from vpoc_ops import airflow_cli, backfill
from vpoc_ops.client import Airflow, NotUpError, RefusedError

RESULT = {"contract": "ESH23", "config_hash": "abc", "rows": 1234, "stages": {"ingest": {"why": "new"}}}


class FakeAirflow:
    """Answers as the API does: ``busy`` times with ``refusal``, then runs for ``made``."""

    lake = "/nowhere"
    refusal = (409, "There is already a running backfill")

    def __init__(
        self, made=("ESH23",), *, state="success", busy=0, paused=False, partitions=("ESH23", "ESM23"), kept=None
    ):
        self.made, self.state, self.busy, self.paused, self.partitions = made, state, busy, paused, partitions
        self.asked, self.started, self.kept = [], [], {"ESM23": "success"} if kept is None else kept

    def __call__(self, home):
        return self

    def call(self, method, path, body=None):
        if path.endswith("/dry_run"):
            return {"backfills": [{"partition_key": key} for key in self.partitions]}
        if method == "GET":
            return {"is_paused": self.paused}
        if self.busy:
            self.busy -= 1
            raise RefusedError(*self.refusal)
        self.asked.append(body)
        self.started += self.made
        return {}

    def runs(self, dag, **filters):
        earlier = [self._run(key, f"manual__{key}__0", queued_at="2026-01-01T00:00:00Z") for key in self.kept]
        return iter([*(self._run(key) for key in self.started), *earlier])

    def trigger(self, dag, run_id, conf, key):
        self.asked.append((run_id, conf, key))
        return {"dag_run_id": run_id}

    def finished(self, dag, ids, timeout, tell):
        runs = {run_id: self._run(run_id.split("__")[1], run_id) for run_id in ids}
        for run in runs.values():
            tell(run)
        return runs

    def result(self, dag, run_id, task):
        return RESULT if self._state(run_id) == "success" else None

    def _state(self, run_id):
        return self.kept[run_id.split("__")[1]] if run_id.endswith("__0") else self.state

    def _run(self, key, run_id=None, queued_at="2026-01-02T00:00:00Z"):
        run_id = run_id or f"backfill__{key}__1"
        return {
            "partition_key": key,
            "dag_run_id": run_id,
            "state": self._state(run_id),
            "duration": 12.3,
            "queued_at": queued_at,
        }


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(backfill.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(backfill, "_failure", lambda lake, run_id: "the VIX does not cover the bars")

    def call(fake, *arguments):
        monkeypatch.setattr(backfill, "Airflow", fake)
        return backfill.main(arguments), " ".join(capsys.readouterr().out.split())

    return call


SPAN = ("range", "--from", "2023-01-01", "--to", "2023-12-31")


def test_range_prints_every_contract_also_those_that_keep_their_run(run):
    fake = FakeAirflow()
    code, printed = run(fake, *SPAN, "--conf", '{"preset": "smoke"}', "-o", "training.seed=3", "--parallel", "2")
    assert code == 0
    for text in ("ESH23", "1,234", "abc", "ingest: new", "ESM23", backfill.THERE):
        assert text in printed
    (asked,) = fake.asked
    assert asked["dag_run_conf"] == {"preset": "smoke", "overrides": {"training.seed": 3}}
    assert (asked["max_active_runs"], asked["reprocess_behavior"]) == (2, "none")
    assert (asked["from_date"], asked["to_date"]) == ("2023-01-01T00:00:00Z", "2023-12-31T00:00:00Z")


@pytest.mark.parametrize("state", ["failed", "running"])
def test_run_that_failed_or_is_not_over_in_time_is_exit_code_one_with_its_reason(run, state):
    code, printed = run(FakeAirflow(state=state), *SPAN)
    assert code == 1
    assert state in printed
    assert "the VIX does not cover" in printed


@pytest.mark.parametrize("state", ["failed", "running"])
def test_earlier_run_that_failed_or_is_not_over_is_exit_code_one(run, state):
    code, printed = run(FakeAirflow(kept={"ESM23": state}), *SPAN)
    assert code == 1
    assert f"ESM23 │ {state} " in printed
    assert f"{backfill.THERE}: the VIX does not cover" in printed
    again = "The run of ESM23 failed earlier and was not started again"
    assert (again in printed) == (state == "failed")
    assert ("make backfill FROM=2023-01-01 TO=2023-12-31 REPROCESS=failed" in printed) == (state == "failed")


def test_new_run_counts_and_not_the_failed_one_before_it(run):
    code, printed = run(FakeAirflow(made=("ESH23", "ESM23"), kept={"ESM23": "failed"}), *SPAN)
    assert code == 0
    assert backfill.THERE not in printed


def test_contract_for_which_airflow_made_no_run_is_exit_code_one(run):
    code, printed = run(FakeAirflow(kept={}), *SPAN)
    assert code == 1
    assert "ESM23 │ no run" in printed


def test_backfill_that_airflow_has_not_yet_seen_end_is_waited_for(run):
    fake = FakeAirflow(busy=3)
    assert run(fake, *SPAN)[0] == 0
    assert len(fake.asked) == 1


def test_backfill_is_tried_again_where_the_database_is_locked_also_beside_running_ones(run):
    fake = FakeAirflow(busy=3, kept={"ESM23": "running"}, partitions=("ESH23",))
    fake.refusal = (503, "database is locked")
    assert run(fake, *SPAN)[0] == 0
    assert len(fake.asked) == 1


def test_backfill_beside_a_running_one_is_refused(run):
    fake = FakeAirflow(state="running", busy=3)
    fake.started = ["ESH23"]
    code, printed = run(fake, *SPAN)
    assert code == 2
    assert "already a running backfill" in printed


def test_paused_dag_is_refused_instead_of_waiting_forever(run):
    code, printed = run(FakeAirflow(paused=True), *SPAN)
    assert code == 2
    assert "paused" in printed


def test_one_contract_is_started_by_its_key(run):
    fake = FakeAirflow()
    assert run(fake, "one", "ESH23")[0] == 0
    ((run_id, conf, key),) = fake.asked
    assert (conf, key) == ({}, "ESH23")
    assert run_id.startswith("manual__ESH23__")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--conf", "{"), "JSON object"),
        (("--conf", "[1]"), "JSON object"),
        (("-o", "training.epoch=3"), "training.epochs"),
        (("-o", "training.epochs=0"), "training.epochs"),
        (("--conf", '{"preset": "nigthly"}'), "nightly"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(run, arguments, text):
    fake = FakeAirflow()
    code, printed = run(fake, *SPAN, *arguments)
    assert code == 2
    assert text in printed
    assert fake.asked == []


def test_without_a_running_airflow_every_command_says_how_to_start_it(tmp_path, capsys):
    assert backfill.main(["one", "ESH25", "--home", str(tmp_path)]) == 2
    assert airflow_cli.main(["--home", str(tmp_path), "dags", "list"]) == 2
    assert capsys.readouterr().out.count("make up") == 2


def test_address_of_an_airflow_that_is_gone_is_named(tmp_path):
    (tmp_path / "parts.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "lake": "/lake"}))
    (tmp_path / "passwords.json").write_text(json.dumps({"admin": "secret"}))
    with pytest.raises(NotUpError, match=r"127\.0\.0\.1:9"):
        Airflow(tmp_path)
