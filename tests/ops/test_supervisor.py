"""The four parts of Airflow, started and stopped for real."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psutil
import pytest
from airflow_client.client import DAGApi, HealthInfoResponse
from airflow_client.client.exceptions import NotFoundException

from vpoc_ml.environment import SUPERVISED_HOME
from vpoc_ops import parts as processes
from vpoc_ops import supervisor
from vpoc_ops.client import Airflow, NotUpError, RefusedError
from vpoc_ops.parts import MLFLOW, PARTS, PartsState, StartError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEAT = (NOW + timedelta(seconds=1)).isoformat()


def report(**changed: dict) -> HealthInfoResponse:
    """A health report in which all parts are healthy and sent a heartbeat one second after ``NOW``."""
    keys = ("scheduler", "dag_processor", "triggerer")
    beats = {key: {"status": "healthy", f"latest_{key}_heartbeat": BEAT} for key in keys}
    return HealthInfoResponse.from_dict({"metadatabase": {"status": "healthy"}, **beats, **changed})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_all_parts_are_unhealthy_until_the_api_server_answers():
    assert processes.unhealthy(None, NOW) == list(PARTS)


def test_a_started_part_needs_a_heartbeat_from_after_its_start():
    assert processes.unhealthy(report(), NOW) == []
    assert processes.unhealthy(report(), NOW + timedelta(minutes=1)) == ["scheduler", "dag-processor", "triggerer"]
    assert processes.unhealthy(report(), NOW + timedelta(minutes=1), ["triggerer"]) == ["triggerer"]
    assert processes.unhealthy(report(triggerer={"status": None}), NOW) == ["triggerer"]


def test_a_part_that_airflow_calls_unhealthy_is_named_whenever_it_was_started():
    silent = {"status": "unhealthy", "latest_scheduler_heartbeat": BEAT}
    assert processes.unhealthy(report(scheduler=silent), None) == ["scheduler"]


class SlowProcessor:
    """Has read a DAG after ``delay`` calls; its only import error is of ``NOW``."""

    def __init__(self, delay: int) -> None:
        self.calls, self.delay = [], delay

    def was_read(self, dag: str, since: datetime) -> bool:
        self.calls.append(dag)
        return self.calls.count(dag) > self.delay

    def import_errors(self, since: datetime) -> dict[str, str]:
        return {"vpoc_nightly.py": "SyntaxError: line 3"} if since <= NOW else {}


def test_up_waits_until_every_dag_can_be_triggered():
    airflow = SlowProcessor(delay=1)
    processes.wait_for_dags(lambda: airflow, NOW + timedelta(seconds=1), time.monotonic() + 60)
    dags = ["vpoc_champion", "vpoc_contracts", "vpoc_maintenance", "vpoc_nightly", "vpoc_search"]
    assert sorted(airflow.calls) == sorted(2 * dags)


def test_a_dag_that_does_not_import_is_reported_with_its_trace():
    with pytest.raises(StartError, match=r"vpoc_nightly.py does not import.\nSyntaxError: line 3"):
        processes.wait_for_dags(lambda: SlowProcessor(delay=1), NOW, time.monotonic() + 60)


def test_a_file_that_does_not_import_is_reported_though_every_dag_was_read():
    with pytest.raises(StartError, match=r"vpoc_nightly.py does not import"):
        processes.wait_for_dags(lambda: SlowProcessor(delay=0), NOW, time.monotonic() + 60)


def test_import_errors_are_requested_again_after_no_answer(monkeypatch):
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    airflow, silent = SlowProcessor(delay=0), iter([True])
    errors = airflow.import_errors

    def slow(since):
        if next(silent, False):
            raise NotUpError("timed out")
        return errors(since)

    airflow.import_errors = slow
    with pytest.raises(StartError, match=r"vpoc_nightly.py does not import"):
        processes.wait_for_dags(lambda: airflow, NOW, time.monotonic() + 60)


@pytest.mark.parametrize(
    ("is_stale", "last_parsed_time", "was_read"),
    [
        (False, NOW, True),
        (False, NOW - timedelta(seconds=0.1), False),
        (True, NOW, False),
        (False, None, False),
    ],
    ids=["after the start", "before the start", "stale", "never"],
)
def test_a_dag_was_read_if_its_record_is_from_after_the_start(monkeypatch, is_stale, last_parsed_time, was_read):
    details = SimpleNamespace(is_stale=is_stale, last_parsed_time=last_parsed_time)
    monkeypatch.setattr(DAGApi, "get_dag_details", lambda api, dag, **options: details)
    assert logged_in().was_read("vpoc_nightly", NOW) is was_read


def test_an_unknown_dag_was_not_read(monkeypatch):
    def not_found(api, dag, **options):
        raise NotFoundException(status=404, body='{"detail": "no such DAG"}')

    monkeypatch.setattr(DAGApi, "get_dag_details", not_found)
    assert logged_in().was_read("vpoc_nightly", NOW) is False


def logged_in() -> Airflow:
    class LoggedIn(Airflow):
        def __init__(self) -> None:
            """Log in nowhere."""
            self.url, self.api = "http://127.0.0.1:9", None

    return LoggedIn()


def test_a_dag_that_is_never_read_is_named():
    with pytest.raises(StartError, match="not read vpoc_champion, vpoc_contracts, vpoc_maintenance, vpoc_nightly"):
        processes.wait_for_dags(lambda: SlowProcessor(delay=9), NOW + timedelta(seconds=1), time.monotonic() - 1)


def test_an_api_that_does_not_answer_is_called_again_until_the_deadline(monkeypatch):
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    airflow, silent = SlowProcessor(delay=1), iter([True, False])

    def connect():
        if next(silent):
            raise NotUpError("timed out")
        return airflow

    was_read, late = airflow.was_read, iter([True])

    def slow(dag, since):
        if next(late, False):
            raise NotUpError("timed out")
        return was_read(dag, since)

    airflow.was_read = slow
    processes.wait_for_dags(connect, NOW + timedelta(seconds=1), time.monotonic() + 60)

    def never():
        raise NotUpError("nobody answers")

    with pytest.raises(StartError, match=r"vpoc_search in time.*nobody answers"):
        processes.wait_for_dags(never, NOW, time.monotonic() - 1)


@pytest.fixture
def sleeping_parts(monkeypatch):
    """Parts are processes that only sleep; the database is not made, and all parts are healthy at once."""
    monkeypatch.setattr(supervisor, "prepare_database", lambda home, state: None)
    monkeypatch.setattr(processes, "spawn", sleeping)
    monkeypatch.setattr(processes, "wait_until_healthy", lambda *arguments: None)
    monkeypatch.setattr(processes, "wait_for_dags", lambda *arguments: None)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RefusedError(500, "Internal error"), (StartError, "Internal error")),
        (NotUpError("nobody answers"), (StartError, "nobody answers")),
        (RuntimeError("a bug"), (RuntimeError, "a bug")),
        (KeyboardInterrupt("by hand"), (KeyboardInterrupt, "by hand")),
    ],
    ids=["refused", "silent", "bug", "Ctrl-C"],
)
@pytest.mark.parametrize("where", ["wait_until_healthy", "wait_for_dags"])
def test_a_failed_up_leaves_no_process_behind(tmp_path, monkeypatch, sleeping_parts, error, raised, where):
    def fail(*arguments):
        assert len(processes.supervised(tmp_path)) == len(PARTS) + 1, "the four parts and MLflow's server"
        raise error

    monkeypatch.setattr(processes, where, fail)
    with pytest.raises(raised[0], match=raised[1]):
        supervisor.up(tmp_path, str(tmp_path / "lake"), free_port(), 60)
    assert processes.supervised(tmp_path) == []


def sleeping(command, environment, log):
    return subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)


@pytest.fixture
def parts(tmp_path, sleeping_parts):
    """Four parts that only sleep, up on the lake ``lake``."""
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


def test_up_on_another_lake_is_rejected_with_the_commands_to_switch(parts, capsys):
    before = mains(parts)
    assert supervisor.main(["up", "--home", str(parts), "--lake", str(parts / "other")]) == 2
    assert mains(parts) == before
    printed = capsys.readouterr().out
    assert f"the running Airflow, {parts / 'lake'}; was {parts / 'other'}" in printed
    assert f"make down`, then `make up LAKE={parts / 'other'}`" in printed


@pytest.mark.parametrize("part", PARTS)
def test_up_starts_the_part_that_ended_and_leaves_the_others_alone(parts, capsys, part):
    before = mains(parts)
    others = [name for name in PARTS if name != part]
    end(before[part])
    assert processes.living(parts) == others
    assert supervisor.up(parts, None, 1, 60) == 0
    printed = capsys.readouterr().out
    assert f"{', '.join(others)} run; {part} ended and will be started again" in printed
    assert f"Airflow is up: {', '.join(PARTS)} run" in printed
    assert processes.living(parts) == list(PARTS)
    after = mains(parts)
    assert {name for name in before if before[name] != after[name]} == {part}


def test_up_starts_an_ended_mlflow_again_and_states_its_address(parts, capsys):
    before, url = mains(parts), processes.stored_state(parts).mlflow
    end(before[MLFLOW])
    assert supervisor.up(parts, None, 1, 60) == 0
    printed = capsys.readouterr().out
    assert f"MLflow {url}, starting" in printed
    assert f"{MLFLOW} ended and will be started again" in printed
    after = mains(parts)
    assert {name for name in before if before[name] != after[name]} == {MLFLOW}


def test_mlflow_takes_the_next_free_port_and_pages_learn_its_address(tmp_path, sleeping_parts):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert supervisor.up(tmp_path, str(tmp_path / "lake"), free_port(), 60, port) == 0
    state = processes.stored_state(tmp_path)
    assert port < state.mlflow_port < port + 20
    assert state.mlflow == f"http://127.0.0.1:{state.mlflow_port}"
    assert processes.environment_of(tmp_path)["VPOC_MLFLOW_URL"] == state.mlflow
    assert supervisor.down(tmp_path) == 0
    assert processes.supervised(tmp_path) == []


@pytest.mark.parametrize(
    ("named", "tracking", "linked"),
    [
        (None, "http://mlflow:5000", "http://mlflow:5000"),
        ("https://models.test", "http://mlflow:5000", "https://models.test"),
        (None, "sqlite:////shared/mlflow.db", None),
    ],
)
def test_no_server_is_started_beside_one_that_the_environment_names(
    tmp_path, sleeping_parts, monkeypatch, capsys, named, tracking, linked
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    if named:
        monkeypatch.setenv("VPOC_MLFLOW_URL", named)
    assert supervisor.up(tmp_path, str(tmp_path / "lake"), free_port(), 60) == 0
    assert sorted(mains(tmp_path)) == sorted(PARTS)
    assert processes.environment_of(tmp_path).get("VPOC_MLFLOW_URL") == linked
    assert (f"MLflow {linked}" in capsys.readouterr().out) is (linked is not None)
    assert supervisor.down(tmp_path) == 0


def test_a_part_that_does_not_start_again_is_named_and_the_others_go_on(parts, capsys, monkeypatch):
    before = mains(parts)
    end(before["scheduler"])

    def fail(*arguments):
        raise StartError("scheduler ended with code 1.")

    monkeypatch.setattr(processes, "wait_until_healthy", fail)
    assert supervisor.up(parts, None, 1, 60) == 1
    printed = capsys.readouterr().out
    assert "scheduler did not start again. Running: api-server, dag-processor, triggerer" in printed
    assert "scheduler ended with code 1." in printed
    assert processes.living(parts) == ["api-server", "dag-processor", "triggerer"]
    assert {name: before[name] == pid for name, pid in mains(parts).items() if name != "scheduler"} == dict.fromkeys(
        ["api-server", "dag-processor", "triggerer", MLFLOW], True
    )


def test_a_part_that_runs_without_being_healthy_is_reported_and_not_killed(parts, capsys, monkeypatch):
    def fail(*arguments):
        raise StartError("Not healthy after 60 s: triggerer.")

    monkeypatch.setattr(processes, "wait_until_healthy", fail)
    assert supervisor.up(parts, None, 1, 60) == 1
    assert "run, but not all are healthy" in capsys.readouterr().out
    assert processes.living(parts) == list(PARTS)


def test_up_beside_a_stray_process_stops_it_and_starts_all_parts(parts, capsys):
    stray = sleeping((), {SUPERVISED_HOME: str(parts), "PATH": "/usr/bin:/bin"}, None)
    for pid in mains(parts).values():
        end(pid)
    assert processes.living(parts) == []
    assert supervisor.up(parts, str(parts / "other"), free_port(), 60) == 0
    assert "None of the four parts runs. Stopping 1 processes that they left behind." in capsys.readouterr().out
    assert not psutil.pid_exists(stray.pid)
    assert processes.living(parts) == list(PARTS)


def test_down_that_leaves_a_process_fails_and_names_it(parts, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(processes, "signal_if_alive", lambda send: None)
        patch.setattr(supervisor.psutil, "wait_procs", lambda processes, timeout: ([], list(processes)))
        assert supervisor.down(parts) == 1
    printed = capsys.readouterr().out
    assert "Airflow is not down" in printed
    assert all(str(pid) in printed for pid in mains(parts).values())


def test_a_taken_port_is_named_and_nothing_starts(tmp_path, capsys):
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
        env={SUPERVISED_HOME: str(tmp_path)},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 10
        while not processes.supervised(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [process.pid for process in processes.supervised(tmp_path)] == [child.pid]
        assert processes.supervised(tmp_path / "other") == []
    finally:
        child.kill()
        child.wait()


def test_a_process_id_that_another_program_got_is_left_alone(tmp_path):
    state = PartsState(url="http://127.0.0.1:9", lake="/lake", boot=processes.boot_id())
    state = state.model_copy(update={"mains": {"scheduler": (psutil.Process().pid, 1.0)}})
    state.store(tmp_path)
    assert processes.main_ids(tmp_path) == {}
    current = {"scheduler": (psutil.Process().pid, psutil.Process().create_time())}
    state.model_copy(update={"mains": current}).store(tmp_path)
    assert processes.main_ids(tmp_path) == {"scheduler": psutil.Process().pid}
    state.model_copy(update={"mains": current, "boot": "an earlier one"}).store(tmp_path)
    assert processes.main_ids(tmp_path) == {}


def test_a_restarted_part_keeps_the_instrument_of_the_first_start(tmp_path, monkeypatch):
    state = PartsState(url="http://127.0.0.1:9", lake="/lake", instrument="NQ", boot=processes.boot_id())
    tmp_path.joinpath("parts.json").write_text(state.model_dump_json())
    monkeypatch.setenv("VPOC_INSTRUMENT", "GC")
    assert processes.environment_of(tmp_path)["VPOC_INSTRUMENT"] == "NQ"
