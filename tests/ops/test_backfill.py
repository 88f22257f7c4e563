"""The commands behind `make backfill` and `make contract`, with a fake Airflow."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from airflow_client.client import DagRunState

from vpoc_ml.artifacts.run_summary import StageFailure
from vpoc_ops import backfill, supervisor
from vpoc_ops.client import Airflow, NotUpError, RefusedError

RESULT = {"contract": "ESH23", "config_hash": "abc", "rows": 1234, "stages": {"ingest": {"reason": "new"}}}


class FakeAirflow:
    """Answers as the API does: ``busy`` times with ``refusal``, then runs for ``made``."""

    lake = "/nowhere"
    refusal = (409, "There is already a running backfill")

    def __init__(
        self, made=("ESH23",), *, state="success", busy=0, paused=False, partitions=("ESH23", "ESM23"), kept=None
    ):
        self.made, self.state, self.busy, self.paused, self.partitions = made, state, busy, paused, partitions
        self.requests, self.started, self.kept = [], [], {"ESM23": "success"} if kept is None else kept

    def __call__(self, home):
        return self

    def is_paused(self, dag):
        return self.paused

    def partitions_of(self, backfill):
        return list(self.partitions)

    def create_backfill(self, backfill):
        if self.busy:
            self.busy -= 1
            raise RefusedError(*self.refusal)
        self.requests.append(backfill)
        self.started += self.made

    def runs(self, dag, run_type=None):
        earlier = [self._run(key, f"manual__{key}__0", day=1) for key in self.kept]
        return iter([*(self._run(key) for key in self.started), *earlier])

    def trigger(self, dag, run_id, conf, key):
        self.requests.append((run_id, conf, key))
        return self._run(key, run_id)

    def wait_for(self, dag, ids, timeout, on_change):
        runs = {run_id: self._run(run_id.split("__")[1], run_id) for run_id in ids}
        for run in runs.values():
            on_change(run)
        return runs

    def result(self, dag, run_id, task):
        return RESULT if self._state(run_id) == "success" else None

    def _state(self, run_id):
        return self.kept[run_id.split("__")[1]] if run_id.endswith("__0") else self.state

    def _run(self, key, run_id=None, day=2):
        run_id = run_id or f"backfill__{key}__1"
        return SimpleNamespace(
            partition_key=key,
            dag_run_id=run_id,
            state=DagRunState(self._state(run_id)),
            duration=12.3,
            queued_at=datetime(2026, 1, day, tzinfo=UTC),
        )


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setattr(backfill.time, "sleep", lambda seconds: None)
    failure = StageFailure(stage="ingest_contract", error="InputError", message="the VIX does not cover the bars")
    monkeypatch.setattr(backfill, "read_failures", lambda lake, run: [failure])

    def call(fake, *arguments):
        monkeypatch.setattr(backfill, "connect", fake)
        return backfill.main(arguments), " ".join(capsys.readouterr().out.split())

    return call


SPAN = ("range", "--from", "2023-01-01", "--to", "2023-12-31")


def test_range_prints_every_contract_also_those_that_keep_their_run(run):
    fake = FakeAirflow()
    code, printed = run(fake, *SPAN, "--conf", '{"preset": "smoke"}', "-o", "training.seed=3", "--parallel", "2")
    assert code == 0
    for text in ("ESH23", "1,234", "abc", "ingest: new", "ESM23", backfill.ALREADY_RUN):
        assert text in printed
    (request,) = fake.requests
    assert request.dag_run_conf == {"preset": "smoke", "overrides": {"training.seed": 3}}
    assert (request.max_active_runs, request.reprocess_behavior.value) == (2, "none")
    assert request.from_date == datetime(2023, 1, 1, tzinfo=UTC)
    assert request.to_date == datetime(2023, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_run_that_fails_or_does_not_end_in_time_gives_exit_code_one_and_its_reason(run, state):
    code, printed = run(FakeAirflow(state=state), *SPAN)
    assert code == 1
    assert state in printed
    assert "the VIX does not cover" in printed


@pytest.mark.parametrize("state", ["failed", "running"])
def test_an_existing_run_that_failed_or_has_not_ended_gives_exit_code_one(run, state):
    code, printed = run(FakeAirflow(kept={"ESM23": state}), *SPAN)
    assert code == 1
    assert f"ESM23 │ {state} " in printed
    assert f"{backfill.ALREADY_RUN}: the VIX does not cover" in printed
    again = "The run of ESM23 failed earlier and was not started again"
    assert (again in printed) == (state == "failed")
    assert ("make backfill FROM=2023-01-01 TO=2023-12-31 REPROCESS=failed" in printed) == (state == "failed")


def test_a_new_run_counts_instead_of_the_failed_one_before_it(run):
    code, printed = run(FakeAirflow(made=("ESH23", "ESM23"), kept={"ESM23": "failed"}), *SPAN)
    assert code == 0
    assert backfill.ALREADY_RUN not in printed


def test_a_contract_without_a_run_gives_exit_code_one(run):
    code, printed = run(FakeAirflow(kept={}), *SPAN)
    assert code == 1
    assert "ESM23 │ no run" in printed


def test_a_backfill_waits_until_airflow_notices_the_end_of_the_previous_one(run):
    fake = FakeAirflow(busy=3)
    assert run(fake, *SPAN)[0] == 0
    assert len(fake.requests) == 1


def test_a_backfill_is_retried_while_the_database_is_locked(run):
    fake = FakeAirflow(busy=3, kept={"ESM23": "running"}, partitions=("ESH23",))
    fake.refusal = (503, "database is locked")
    assert run(fake, *SPAN)[0] == 0
    assert len(fake.requests) == 1


def test_a_backfill_beside_a_running_one_is_rejected(run):
    fake = FakeAirflow(state="running", busy=3)
    fake.started = ["ESH23"]
    code, printed = run(fake, *SPAN)
    assert code == 2
    assert "already a running backfill" in printed


def test_a_paused_dag_is_rejected(run):
    code, printed = run(FakeAirflow(paused=True), *SPAN)
    assert code == 2
    assert "paused" in printed


def test_one_contract_is_started_by_its_key(run):
    fake = FakeAirflow()
    assert run(fake, "one", "ESH23")[0] == 0
    ((run_id, conf, key),) = fake.requests
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
def test_wrong_settings_are_rejected_before_anything_starts(run, arguments, text):
    fake = FakeAirflow()
    code, printed = run(fake, *SPAN, *arguments)
    assert code == 2
    assert text in printed
    assert fake.requests == []


def test_a_command_without_a_running_airflow_names_make_up(tmp_path, capsys):
    assert backfill.main(["one", "ESH25", "--home", str(tmp_path)]) == 2
    assert supervisor.main(["airflow", "--home", str(tmp_path), "dags", "list"]) == 2
    assert capsys.readouterr().out.count("make up") == 2


def test_address_of_an_airflow_that_is_gone_is_named(tmp_path):
    (tmp_path / "parts.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "lake": "/lake"}))
    (tmp_path / "passwords.json").write_text(json.dumps({"admin": "secret"}))
    with pytest.raises(NotUpError, match=r"127\.0\.0\.1:9"):
        Airflow.of_home(tmp_path)


class Remote(BaseHTTPRequestHandler):
    """An Airflow elsewhere as far as logging in and one DAG go; it knows one user and one token."""

    def do_POST(self):
        login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = login == {"username": "operator", "password": "right"}
        self.answer(201 if known else 401, {"access_token": "abc"} if known else {"detail": "Invalid credentials"})

    def do_GET(self):
        known = self.headers["Authorization"] == "Bearer abc"
        self.answer(404 if known else 403, {"detail": f"{self.path} is not here" if known else "Forbidden"})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def remote(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Remote)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("VPOC_AIRFLOW_URL", f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        ({"USER": "operator", "PASSWORD": "right"}, "/api/v2/dags/vpoc_contracts is not here"),
        ({"TOKEN": "abc"}, "/api/v2/dags/vpoc_contracts is not here"),
        ({"USER": "operator", "PASSWORD": "wrong"}, "Invalid credentials"),
        ({"TOKEN": "old"}, "Forbidden"),
        ({"USER": "operator"}, "Expected VPOC_AIRFLOW_TOKEN, or VPOC_AIRFLOW_USER and VPOC_AIRFLOW_PASSWORD"),
    ],
)
def test_the_environment_names_an_airflow_elsewhere(remote, monkeypatch, capsys, tmp_path, variables, printed):
    for name, value in variables.items():
        monkeypatch.setenv(f"VPOC_AIRFLOW_{name}", value)
    assert backfill.main(["one", "ESH25", "--home", str(tmp_path)]) == 2
    assert printed in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("variables", "code", "printed"),
    [
        ({"USER": "operator", "PASSWORD": "right"}, 1, "/api/v2/dags/vpoc_contracts/details is not here"),
        ({"TOKEN": "old"}, 1, "Forbidden"),
        ({"USER": "operator", "PASSWORD": "wrong"}, 2, "Invalid credentials"),
        ({"USER": "operator"}, 2, "Expected VPOC_AIRFLOW_TOKEN, or VPOC_AIRFLOW_USER and VPOC_AIRFLOW_PASSWORD"),
    ],
)
def test_airflows_own_commands_reach_an_airflow_elsewhere(remote, monkeypatch, capfd, variables, code, printed):
    for name, value in variables.items():
        monkeypatch.setenv(f"VPOC_AIRFLOW_{name}", value)
    assert supervisor.main(["airflow", "dags", "get-details", "vpoc_contracts"]) == code
    assert printed in " ".join(capfd.readouterr().out.split())
