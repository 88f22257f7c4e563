"""``python -m vpoc_ops.supervisor up|down``: Airflow's four parts on this machine, on the loopback interface.

Airflow's own ``standalone`` orphans its children on SIGTERM and opens log servers on every interface; here each
part is started and stopped by itself, and ``down`` leaves no process behind.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from vpoc_airflow import env
from vpoc_ml.environment import LAKE, SUPERVISED_HOME, read
from vpoc_ml.lake.atomic import write_json
from vpoc_ops.client import UNANSWERED, Airflow, NotUpError, RefusedError

PARTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
MARK = SUPERVISED_HOME
"""Environment variable that every process below a supervised home carries; its value is the home."""

console = Console(soft_wrap=True, highlight=False)


class StartError(Exception):
    """A part of Airflow that does not start, and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vpoc_ops.supervisor", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--home", type=Path, default=env.PROJECT / ".airflow" / "up", help="Airflow's folder")
    parser.add_argument("--lake", default=read(LAKE), help="lake: a folder or a URL")
    parser.add_argument("--port", type=int, default=8080, help="port of the API server")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds until all parts have to be healthy")
    options = parser.parse_args(arguments)
    home = options.home.absolute()
    if options.command == "down":
        return down(home)
    try:
        return up(home, options.lake, options.port, options.timeout)
    except StartError as error:
        console.print(f"[bold red]Airflow did not start.[/] {error}")
        return 1


def up(home: Path, lake: str | None, port: int, timeout: float) -> int:
    """Start the parts that do not run, detached, and return once all are healthy and every DAG can be triggered.

    Running parts are left alone. What parts that have all ended left behind is stopped first.

    Args:
        home: Airflow's folder.
        lake: folder or URL; None: the running parts' own, or the project's ``data``.
        port: port of the API server when no part runs yet.
        timeout: seconds until all parts have to be healthy.

    Returns:
        The exit code: 2 when the running parts serve another lake than ``lake``.

    Raises:
        StartError: the port is taken, the database cannot be made, a part died or is not healthy in time, a DAG does
            not import or is not there in time.
    """
    if running := living(home):
        return _complete(home, running, lake, timeout)
    if leftover := supervised(home):
        console.print(f"None of the four parts runs. Processes that they left behind, to be stopped: {len(leftover)}.")
        if down(home, grace=0):  # nobody is left to stop them in order
            return 1
    _claim(port)
    deadline = time.monotonic() + timeout
    home.mkdir(parents=True, exist_ok=True)
    password = _seed_password(home)
    logs = _logs(home)
    environment = env.merged(env.airflow_env(home, lake or env.lake_uri(), port=port) | _secrets(home))
    _prepare(environment, logs / "prepare.log")
    url = f"http://127.0.0.1:{port}"
    write_json(home / "parts.json", {"url": url, "lake": env.lake_uri(lake), "boot": _boot(), "mains": {}})
    _start(home, tuple(PARTS), environment, deadline)
    login = f"admin / {password}" if password else f"admin, password in {home / 'passwords.json'}"
    seconds = timeout - (deadline - time.monotonic())
    console.print(f"Airflow is up after {seconds:.0f} s: {url}\nlogin {login}\nlogs  {logs}")
    return 0


def living(home: Path) -> list[str]:
    """Return the names of the parts of ``home`` whose main process runs."""
    mains = _state(home).get("mains", {})
    running = {process.pid for process in supervised(home)} & _mains(home)
    return [name for name in PARTS if name in mains and mains[name][0] in running]


def _complete(home: Path, running: Sequence[str], lake: str | None, timeout: float) -> int:
    """Start the parts that have ended beside the ``running`` ones; refuse another lake than theirs."""
    state = _state(home)
    if lake and env.lake_uri(lake) != state["lake"]:
        console.print(
            f"[bold red]Refused.[/] Expected the lake of the running Airflow, {state['lake']}; was"
            f" {env.lake_uri(lake)}. Airflow serves one lake at a time: stop it with `make down`, then `make up"
            f" LAKE={env.lake_uri(lake)}`."
        )
        return 2
    where = f"{state['url']}, lake {state['lake']}"
    ended = tuple(name for name in PARTS if name not in running)
    if not ended:
        _wait_healthy(state["url"], {}, _logs(home), datetime.min.replace(tzinfo=UTC), timeout)
        console.print(f"Already up: {', '.join(running)} run; {where}. `make down` stops them.")
        return 0
    console.print(f"{', '.join(running)} run; {', '.join(ended)} ended and start again; {where}.")
    for process in supervised(home):
        if _session(process) in {state["mains"][name][0] for name in ended if name in state["mains"]}:
            _signal(process.kill)  # what the part that ended has left behind
    _start(home, ended, environment(home), time.monotonic() + timeout)
    console.print(f"Airflow is up: {where}. Why a part ended: {_logs(home)}/PART.log.1")
    return 0


def _start(home: Path, names: Sequence[str], environment: dict[str, str], deadline: float) -> None:
    """Start the named parts, add them to the state, and wait until all four are healthy and every DAG was read."""
    started, logs, state = datetime.now(UTC), _logs(home), _state(home)
    with _down_on_failure(home):
        marked = environment | {MARK: str(home)}
        parts = {name: _spawn(PARTS[name], marked, logs / f"{name}.log") for name in names}
        mains = {name: [part.pid, psutil.Process(part.pid).create_time()] for name, part in parts.items()}
        write_json(home / "parts.json", state | {"mains": state["mains"] | mains})
        _wait_healthy(state["url"], parts, logs, started, deadline - time.monotonic())
        _wait_for_dags(lambda: Airflow(home), started, deadline)


def _logs(home: Path) -> Path:
    logs = home / "logs" / "parts"
    logs.mkdir(parents=True, exist_ok=True)
    return logs


@contextmanager
def _down_on_failure(home: Path) -> Iterator[None]:
    """Stop what was started when the block is left by any exception, Ctrl-C too; the client's errors become one."""
    try:
        yield
    except BaseException as error:
        down(home)
        if isinstance(error, NotUpError | RefusedError):
            raise StartError(f"Its API did not do what was asked: {error}") from error
        raise


def down(home: Path, grace: float = 20.0) -> int:
    """Ask each part to stop, wait, then kill whatever still carries the home's mark."""
    begin = time.monotonic()
    processes = supervised(home)
    if not processes:
        console.print("Not up: nothing to stop.")
        return 0
    mains = _mains(home)
    for process in processes:
        if process.pid in mains:
            _signal(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    leftover = supervised(home)
    for process in {*alive, *leftover}:
        _signal(process.kill)
    psutil.wait_procs([*alive, *leftover], timeout=5)
    if remaining := supervised(home):
        ids = ", ".join(str(process.pid) for process in remaining)
        console.print(f"[bold red]Airflow is not down.[/] Expected no process to be left; these still run: {ids}.")
        return 1
    (home / "parts.json").unlink(missing_ok=True)
    killed = f", {len(leftover)} had to be killed" if leftover else ""
    console.print(f"Airflow is down after {time.monotonic() - begin:.0f} s: {len(processes)} processes ended{killed}.")
    return 0


def supervised(home: Path) -> list[psutil.Process]:
    """Return every living process of ``home``: in the session of one of its parts, or with the mark.

    Neither sign is enough: processes that set their title lose the environment the system shows, and the
    training's own process group may leave the session.
    """
    sessions, found = _mains(home), []
    for process in psutil.process_iter():
        try:
            ours = os.getsid(process.pid) in sessions or process.environ().get(MARK) == str(home)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    own = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in found if process.pid not in own]


def environment(home: Path) -> dict[str, str]:
    """Return the environment in which Airflow's commands talk to the running parts of ``home``."""
    state = _state(home)
    port = int(state["url"].rsplit(":", 1)[1])
    return env.merged(env.airflow_env(home, state["lake"], port=port) | _secrets(home))


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def _mains(home: Path) -> set[int]:
    """Return the ids of the parts' main processes, without ids that another program has got since."""
    state = _state(home)
    if state.get("boot") != _boot():
        return set()
    ids = {pid for pid, _ in state["mains"].values()}
    for pid, created in state["mains"].values():
        if psutil.pid_exists(pid) and abs(psutil.Process(pid).create_time() - created) > 1:
            ids.discard(pid)
    return ids


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _claim(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartError(f"Port {port} of 127.0.0.1 is taken ({error.strerror}). Choose one: PORT=8081.") from error


def _seed_password(home: Path) -> str | None:
    """Write a random admin password once a home; return it when it is new."""
    path = home / "passwords.json"
    if path.is_file():
        return None
    password = secrets.token_urlsafe(12)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"admin": password}))
    return password


def _secrets(home: Path) -> dict[str, str]:
    """Return the keys that all parts have to share; made once a home. Left alone, each part makes its own."""
    path = home / "secrets.json"
    if not path.is_file():
        path.touch(mode=0o600)
        keys = {
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        }
        path.write_text(json.dumps(keys))
    stored: dict[str, str] = json.loads(path.read_text())
    return stored


def _prepare(environment: dict[str, str], log: Path) -> None:
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "vpoc_ops.prepare"],
            env=environment,
            stdout=file,
            stderr=file,
            cwd=env.PROJECT,
            check=False,
        )
    if done.returncode:
        raise StartError(f"The database could not be prepared.\n{_tail(log)}")


def _spawn(command: tuple[str, ...], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    if log.is_file():
        log.replace(log.with_name(f"{log.name}.1"))  # the part's earlier life: why it ended
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=env.PROJECT,
            start_new_session=True,
        )


def _wait_healthy(
    url: str, parts: dict[str, subprocess.Popen[bytes]], logs: Path, started: datetime, timeout: float
) -> None:
    deadline = time.monotonic() + timeout
    missing = list(PARTS)
    while missing:
        for name, part in parts.items():
            if part.poll() is not None:
                raise StartError(f"{name} ended with code {part.returncode}.\n{_tail(logs / f'{name}.log')}")
        if time.monotonic() > deadline:
            tails = "\n".join(_tail(logs / f"{name}.log") for name in missing)
            raise StartError(f"Not healthy after {timeout:.0f} s: {', '.join(missing)}.\n{tails}")
        time.sleep(0.5)
        missing = unhealthy(_health(url), started)


def _wait_for_dags(connect: Callable[[], Airflow], started: datetime, deadline: float) -> None:
    """Wait until each DAG, named as its file, was read since ``started``: a healthy processor may not have read one.

    A DAG of an earlier life says nothing about its file of today. Errors are asked for after the last DAG too.
    An API that does not answer, busy as it is while everything starts, is asked again until ``deadline``.
    """
    missing, airflow, silence = sorted(path.stem for path in (env.PROJECT / "dags").glob("vpoc_*.py")), None, ""
    while True:
        try:
            airflow = airflow or connect()
            unread = [dag for dag in missing if not airflow.knows(dag, started)]
            missing, broken, silence = unread, airflow.import_errors(started), ""  # nothing of it when one is silent
        except NotUpError as error:
            broken, silence = {}, f" {error}"
        if broken:
            raise StartError("\n".join(f"{name} does not import.\n{trace}" for name, trace in broken.items()))
        if not missing:
            return
        if time.monotonic() > deadline:
            late = f"The DAG processor has not read {', '.join(missing)} in time."
            raise StartError(f"{late} Try a larger --timeout.{silence}")
        time.sleep(0.5)


def unhealthy(health: dict[str, Any] | None, started: datetime) -> list[str]:
    """Return the parts that are not healthy; a heartbeat from before ``started`` is an earlier life's."""
    if health is None:
        return list(PARTS)
    missing = []
    for name, key in HEALTH_KEYS.items():
        part = health.get(key) or {}
        beat = part.get(f"latest_{key}_heartbeat")
        if part.get("status") != "healthy" or not beat or datetime.fromisoformat(beat) < started:
            missing.append(name)
    return missing


def _health(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - loopback
            health: dict[str, Any] = json.load(answer)
            return health
    except (*UNANSWERED, json.JSONDecodeError):
        return None


def _state(home: Path) -> dict[str, Any]:
    path = home / "parts.json"
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return state


def _signal(send: Any) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def _tail(log: Path, lines: int = 12) -> str:
    text = log.read_text(errors="replace").splitlines()[-lines:] if log.is_file() else []
    return "\n".join([f"--- {log}", *text])


if __name__ == "__main__":
    sys.exit(main())
