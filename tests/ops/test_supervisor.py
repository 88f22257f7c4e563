"""The four parts of Airflow, started and stopped for real."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from vpoc_ops import supervisor
from vpoc_ops.client import Airflow, NotUpError, RefusedError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEALTHY = {
    "metadatabase": {"status": "healthy"},
    **{
        key: {"status": "healthy", f"latest_{key}_heartbeat": (NOW + timedelta(seconds=1)).isoformat()}
        for key in supervisor.HEALTH_KEYS.values()
    },
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_everything_is_missing_until_the_api_server_answers():
    assert supervisor.unhealthy(None, NOW) == list(supervisor.PARTS)


def test_part_without_a_fresh_heartbeat_is_named():
    assert supervisor.unhealthy(HEALTHY, NOW) == []
    assert supervisor.unhealthy(HEALTHY, NOW + timedelta(minutes=1)) == ["scheduler", "dag-processor", "triggerer"]
    assert supervisor.unhealthy({**HEALTHY, "triggerer": {"status": None}}, NOW) == ["triggerer"]


class SlowProcessor:
    """Knows one DAG more each time it is asked; its only import error is of ``NOW``."""

    def __init__(self, patience: int) -> None:
        self.asked, self.patience = [], patience

    def knows(self, dag: str, since: datetime) -> bool:
        self.asked.append(dag)
        return self.asked.count(dag) > self.patience

    def import_errors(self, since: datetime) -> dict[str, str]:
        return {"vpoc_nightly.py": "SyntaxError: line 3"} if since <= NOW else {}


def test_up_waits_until_every_dag_can_be_triggered():
    airflow = SlowProcessor(patience=1)
    supervisor._wait_for_dags(lambda: airflow, NOW + timedelta(seconds=1), time.monotonic() + 60)
    assert sorted(airflow.asked) == sorted(2 * ["vpoc_contracts", "vpoc_nightly", "vpoc_search"])


def test_dag_that_does_not_import_is_told_with_its_trace():
    with pytest.raises(supervisor.StartError, match=r"vpoc_nightly.py does not import.\nSyntaxError: line 3"):
        supervisor._wait_for_dags(lambda: SlowProcessor(patience=1), NOW, time.monotonic() + 60)


def test_file_that_does_not_import_is_told_though_every_dag_is_known():
    with pytest.raises(supervisor.StartError, match=r"vpoc_nightly.py does not import"):
        supervisor._wait_for_dags(lambda: SlowProcessor(patience=0), NOW, time.monotonic() + 60)


def test_errors_that_could_not_be_asked_for_are_asked_for_again(monkeypatch):
    monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: None)
    airflow, silent = SlowProcessor(patience=0), iter([True])
    errors = airflow.import_errors

    def slow(since):
        if next(silent, False):
            raise NotUpError("timed out")
        return errors(since)

    airflow.import_errors = slow
    with pytest.raises(supervisor.StartError, match=r"vpoc_nightly.py does not import"):
        supervisor._wait_for_dags(lambda: airflow, NOW, time.monotonic() + 60)


@pytest.mark.parametrize(
    ("details", "known"),
    [
        ({"is_stale": False, "last_parsed_time": "2026-01-01T00:00:00Z"}, True),
        ({"is_stale": False, "last_parsed_time": "2025-12-31T23:59:59.9Z"}, False),
        ({"is_stale": True, "last_parsed_time": "2026-01-01T00:00:00Z"}, False),
        ({"is_stale": False, "last_parsed_time": None}, False),
        (RefusedError(404, "no such DAG"), False),
    ],
    ids=["of this life", "of an earlier life", "stale", "never read", "unknown"],
)
def test_dag_is_known_once_it_was_read_in_this_life(details, known):
    class Answering(Airflow):
        def __init__(self) -> None:
            """Log in nowhere."""

        def call(self, method, path, body=None):
            assert (method, path) == ("GET", "/api/v2/dags/vpoc_nightly/details")
            if isinstance(details, Exception):
                raise details
            return details

    assert Answering().knows("vpoc_nightly", NOW) is known


def test_dag_that_never_comes_is_named():
    with pytest.raises(supervisor.StartError, match="not read vpoc_contracts, vpoc_nightly, vpoc_search in time"):
        supervisor._wait_for_dags(lambda: SlowProcessor(patience=9), NOW + timedelta(seconds=1), time.monotonic() - 1)


def test_api_that_does_not_answer_in_time_is_asked_again_until_the_deadline(monkeypatch):
    monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: None)
    airflow, silent = SlowProcessor(patience=1), iter([True, False])

    def connect():
        if next(silent):
            raise NotUpError("timed out")
        return airflow

    knows, late = airflow.knows, iter([True])

    def slow(dag, since):
        if next(late, False):
            raise NotUpError("timed out")
        return knows(dag, since)

    airflow.knows = slow
    supervisor._wait_for_dags(connect, NOW + timedelta(seconds=1), time.monotonic() + 60)

    def never():
        raise NotUpError("nobody answers")

    with pytest.raises(supervisor.StartError, match=r"vpoc_search in time.*nobody answers"):
        supervisor._wait_for_dags(never, NOW, time.monotonic() - 1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RefusedError(500, "Internal error"), (supervisor.StartError, "Internal error")),
        (NotUpError("nobody answers"), (supervisor.StartError, "nobody answers")),
        (RuntimeError("a bug"), (RuntimeError, "a bug")),
        (KeyboardInterrupt("by hand"), (KeyboardInterrupt, "by hand")),
    ],
    ids=["refused", "silent", "bug", "Ctrl-C"],
)
@pytest.mark.parametrize("where", ["_wait_healthy", "_wait_for_dags"])
def test_failed_up_leaves_no_process_behind(tmp_path, monkeypatch, error, told, where):
    def fail(*arguments):
        assert len(supervisor.supervised(tmp_path)) == len(supervisor.PARTS)
        raise error

    monkeypatch.setattr(supervisor, "_prepare", lambda environment, log: None)
    monkeypatch.setattr(supervisor, "_spawn", sleeping)
    monkeypatch.setattr(supervisor, "_wait_healthy", lambda *arguments: None)
    monkeypatch.setattr(supervisor, where, fail)
    with pytest.raises(told[0], match=told[1]):
        supervisor.up(tmp_path, str(tmp_path / "lake"), free_port(), 60)
    assert supervisor.supervised(tmp_path) == []


def sleeping(command, environment, log):
    return subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Four parts that only sleep, up on the lake ``lake``."""
    monkeypatch.setattr(supervisor, "_prepare", lambda environment, log: None)
    monkeypatch.setattr(supervisor, "_spawn", sleeping)
    monkeypatch.setattr(supervisor, "_wait_healthy", lambda *arguments: None)
    monkeypatch.setattr(supervisor, "_wait_for_dags", lambda *arguments: None)
    assert supervisor.up(tmp_path, str(tmp_path / "lake"), free_port(), 60) == 0
    yield tmp_path
    supervisor.down(tmp_path)


def mains(home) -> dict[str, int]:
    return {name: pid for name, (pid, _) in json.loads((home / "parts.json").read_text())["mains"].items()}


def end(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    psutil.wait_procs([process], timeout=10)


def test_up_beside_all_four_parts_starts_nothing_and_names_parts_and_lake(parts, capsys):
    before = mains(parts)
    assert supervisor.up(parts, None, 1, 60) == 0
    assert supervisor.up(parts, str(parts / "lake"), 1, 60) == 0
    assert mains(parts) == before
    printed = capsys.readouterr().out
    assert printed.count("Already up: api-server, scheduler, dag-processor, triggerer run") == 2
    assert f"lake {parts / 'lake'}" in printed


def test_up_on_another_lake_is_refused_and_says_how_to_switch(parts, capsys):
    before = mains(parts)
    assert supervisor.main(["up", "--home", str(parts), "--lake", str(parts / "other")]) == 2
    assert mains(parts) == before
    printed = capsys.readouterr().out
    assert f"the running Airflow, {parts / 'lake'}; was {parts / 'other'}" in printed
    assert f"make down`, then `make up LAKE={parts / 'other'}`" in printed


def test_up_starts_the_part_that_ended_and_leaves_the_others_alone(parts, capsys):
    before = mains(parts)
    end(before["triggerer"])
    assert supervisor.living(parts) == ["api-server", "scheduler", "dag-processor"]
    assert supervisor.up(parts, None, 1, 60) == 0
    assert "api-server, scheduler, dag-processor run; triggerer ended and start" in capsys.readouterr().out
    assert supervisor.living(parts) == list(supervisor.PARTS)
    after = mains(parts)
    assert {name for name in before if before[name] != after[name]} == {"triggerer"}


def test_up_beside_a_stray_process_stops_it_and_starts_all_parts(parts, capsys):
    stray = sleeping((), {supervisor.MARK: str(parts), "PATH": "/usr/bin:/bin"}, None)
    for pid in mains(parts).values():
        end(pid)
    assert supervisor.living(parts) == []
    assert supervisor.up(parts, str(parts / "other"), free_port(), 60) == 0
    assert "None of the four parts runs. Processes that they left behind, to be stopped: 1." in capsys.readouterr().out
    assert not psutil.pid_exists(stray.pid)
    assert supervisor.living(parts) == list(supervisor.PARTS)


def test_down_that_leaves_a_process_fails_and_names_it(parts, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "_signal", lambda send: None)
        patch.setattr(supervisor.psutil, "wait_procs", lambda processes, timeout: ([], list(processes)))
        assert supervisor.down(parts) == 1
    printed = capsys.readouterr().out
    assert "Airflow is not down" in printed
    assert all(str(pid) in printed for pid in mains(parts).values())


def test_taken_port_is_named_and_nothing_starts(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert supervisor.main(["up", "--home", str(tmp_path / "home"), "--port", str(port)]) == 1
    assert f"Port {port}" in capsys.readouterr().out
    assert not (tmp_path / "home").exists()


def test_down_without_up_is_no_error(tmp_path, capsys):
    assert supervisor.main(["down", "--home", str(tmp_path)]) == 0
    assert "Not up" in capsys.readouterr().out


def test_process_that_left_its_session_is_still_found_by_its_mark(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={supervisor.MARK: str(tmp_path)},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 10
        while not supervisor.supervised(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [process.pid for process in supervisor.supervised(tmp_path)] == [child.pid]
        assert supervisor.supervised(tmp_path / "other") == []
    finally:
        child.kill()
        child.wait()


def test_process_id_that_another_program_got_is_left_alone(tmp_path):
    stale = {"boot": supervisor._boot(), "mains": {"scheduler": [psutil.Process().pid, 1.0]}}
    (tmp_path / "parts.json").write_text(json.dumps(stale))
    assert supervisor._mains(tmp_path) == set()
    (tmp_path / "parts.json").write_text(json.dumps(stale | {"boot": "an earlier one"}))
    assert supervisor._mains(tmp_path) == set()
