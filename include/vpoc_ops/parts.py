"""The processes of Airflow's four parts and of MLflow's server: what is stored, which live, how they start and end.

A home's ``parts.json`` names the main process of each part. A process belongs to the home if it is in the session of
one of these, or if its environment carries ``VPOC_SUPERVISED_HOME``. Neither sign is enough: a process that sets its
title loses the environment that the system shows, and a training's process group may leave the session.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import psutil
from airflow_client.client import HealthInfoResponse
from pydantic import BaseModel, ConfigDict

from vpoc_ml.environment import INSTRUMENT, MLFLOW_URL, PROJECT, SUPERVISED_HOME
from vpoc_ml.lake.atomic import write_json
from vpoc_ops.airflow_home import PARTS_FILE, airflow_env, merged
from vpoc_ops.client import Airflow, NotUpError, health

COMMANDS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Each part and its words on Airflow's command line."""
PARTS = tuple(COMMANDS)
MLFLOW = "mlflow"
"""Name of MLflow's server. It starts and ends with the parts; nothing waits for it."""


class StartError(Exception):
    """A part of Airflow that does not start; the message has the reason."""


class PartsState(BaseModel):
    """What a home stores of its running Airflow, in ``parts.json``.

    Attributes:
        url: address of the API server.
        lake: lake that the parts work on.
        mlflow: address of MLflow's UI; None: there is none.
        mlflow_port: port of the server that was started for it; None: the UI belongs to another server.
        instrument: instrument of the DAGs, as ``VPOC_INSTRUMENT`` named it at the start; None: the default.
        boot: id of the machine's boot; process ids of another boot mean nothing.
        mains: id and creation time (seconds since 1970) of each part's main process.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str
    lake: str
    mlflow: str | None = None
    mlflow_port: int | None = None
    instrument: str | None = None
    boot: str
    mains: dict[str, tuple[int, float]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that runs: the four parts and, where it was started here, MLflow's server."""
        return PARTS if self.mlflow_port is None else (*PARTS, MLFLOW)

    @property
    def port(self) -> int:
        """Port of the API server."""
        return int(self.url.rsplit(":", 1)[1])

    def store(self, home: Path) -> None:
        """Write the state of ``home``."""
        write_json(home / PARTS_FILE, self.model_dump(mode="json"))

    def main_ids(self) -> dict[str, int]:
        """Return the id of each part's main process, without ids that another program has got since."""
        if self.boot != boot_id():
            return {}
        return {name: pid for name, (pid, created) in self.mains.items() if not _reused(pid, created)}


def stored_state(home: Path) -> PartsState | None:
    """Return the state of ``home``; None if nothing was started there."""
    path = home / PARTS_FILE
    return PartsState.model_validate_json(path.read_bytes()) if path.is_file() else None


def boot_id() -> str:
    """Return the id of this machine's boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _reused(pid: int, created: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - created) > 1
    except psutil.NoSuchProcess:
        return False  # ended: its session may still have processes


def main_ids(home: Path) -> dict[str, int]:
    """Return the id of the main process of each part of ``home``."""
    state = stored_state(home)
    return state.main_ids() if state else {}


def living(home: Path, names: Iterable[str] = PARTS) -> list[str]:
    """Return those of the names whose main process runs."""
    running, mains = {process.pid for process in supervised(home)}, main_ids(home)
    return [name for name in names if mains.get(name) in running]


def supervised(home: Path) -> list[psutil.Process]:
    """Return every living process of ``home`` except this one and its parents."""
    sessions, found = set(main_ids(home).values()), []
    for process in psutil.process_iter():
        try:
            ours = session_of(process) in sessions or process.environ().get(SUPERVISED_HOME) == str(home)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    own = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in found if process.pid not in own]


def session_of(process: psutil.Process) -> int | None:
    """Return the id of a process's session; None if it has ended."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def spawn_parts(home: Path, names: Iterable[str], state: PartsState) -> dict[str, subprocess.Popen[bytes]]:
    """Start the named parts and ``MLFLOW``, detached, and store their processes beside those in ``state``."""
    marked = environment_of(home, state) | {SUPERVISED_HOME: str(home)}
    commands = {name: ("airflow", *words) for name, words in COMMANDS.items()}
    commands[MLFLOW] = ("vpoc_ops.mlflow_server", str(state.mlflow_port))
    started = {name: spawn(commands[name], marked, log_of(home, name)) for name in names}
    mains = {name: (part.pid, psutil.Process(part.pid).create_time()) for name, part in started.items()}
    state.model_copy(update={"mains": state.mains | mains}).store(home)
    return started


def spawn(command: tuple[str, ...], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the Python module and its words in ``command`` as leader of a session of its own; output goes to ``log``.

    An earlier log is kept as ``<log>.1``: it shows why the part ended.
    """
    if log.is_file():
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=PROJECT,
            start_new_session=True,
        )


def end_parts(home: Path, names: Collection[str]) -> None:
    """Kill all processes in the sessions of the named parts, and wait up to 10 s for their end."""
    sessions = {pid for name, pid in main_ids(home).items() if name in names}
    killed = [process for process in supervised(home) if session_of(process) in sessions]
    for process in killed:
        signal_if_alive(process.kill)
    psutil.wait_procs(killed, timeout=10)


def signal_if_alive(send: Callable[[], None]) -> None:
    """Call ``send``, a process's ``terminate`` or ``kill``; a process that has ended is no error."""
    try:
        send()
    except psutil.NoSuchProcess:
        return


def environment_of(home: Path, state: PartsState | None = None) -> dict[str, str]:
    """Return the environment in which Airflow's commands talk to the parts of ``home``.

    Raises:
        StartError: nothing was started in ``home``.
    """
    state = state or stored_state(home)
    if state is None:
        raise StartError(f"Expected a running Airflow in {home}; found none. Start it with `make up`.")
    named = {name: value for name, value in ((INSTRUMENT, state.instrument), (MLFLOW_URL, state.mlflow)) if value}
    return merged(airflow_env(home, state.lake, port=state.port) | shared_secrets(home) | named)


def shared_secrets(home: Path) -> dict[str, str]:
    """Return the keys that all parts must share, made once per home. Without them each part makes its own."""
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


def log_of(home: Path, name: str) -> Path:
    """Return the log file of a part; its folder exists."""
    folder = home / "logs" / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def log_tail(log: Path, lines: int = 12) -> str:
    """Return the name and the last lines of a log."""
    text = log.read_text(errors="replace").splitlines()[-lines:] if log.is_file() else []
    return "\n".join([f"--- {log}", *text])


HEALTHY = "healthy"


def unhealthy(report: HealthInfoResponse | None, since: datetime | None, fresh: Collection[str] = PARTS) -> list[str]:
    """Return the parts that are not healthy.

    Args:
        report: what the API server says; None if it does not answer.
        since: start of the parts named by ``fresh``: a heartbeat from before it belongs to an earlier process.
        fresh: parts that were started at ``since``.
    """
    if report is None:
        return list(PARTS)
    processor = report.dag_processor
    beats = {
        "scheduler": (report.scheduler.status, report.scheduler.latest_scheduler_heartbeat),
        "dag-processor": (processor and processor.status, processor and processor.latest_dag_processor_heartbeat),
        "triggerer": (report.triggerer.status, report.triggerer.latest_triggerer_heartbeat),
    }
    missing = []
    for name, (status, beat) in beats.items():
        old = since is not None and name in fresh and (not beat or datetime.fromisoformat(beat) < since)
        if status != HEALTHY or not beat or old:
            missing.append(name)
    return missing


def wait_until_healthy(
    home: Path, url: str, started: Mapping[str, subprocess.Popen[bytes]], since: datetime | None, timeout: float
) -> None:
    """Wait until all four parts are healthy.

    Args:
        home: Airflow's folder.
        url: address of the API server.
        started: the parts that were started at ``since``.
        since: heartbeats of ``started`` must be newer.
        timeout: seconds.

    Raises:
        StartError: a part of ``started`` ended, or a part is not healthy in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        for name, part in started.items():
            if part.poll() is not None:
                raise StartError(f"{name} ended with code {part.returncode}.\n{log_tail(log_of(home, name))}")
        missing = unhealthy(health(url), since, started)
        if not missing:
            return
        if time.monotonic() > deadline:
            tails = "\n".join(log_tail(log_of(home, name)) for name in missing)
            raise StartError(f"Not healthy after {timeout:.0f} s: {', '.join(missing)}.\n{tails}")
        time.sleep(0.5)


def wait_for_dags(connect: Callable[[], Airflow], since: datetime, deadline: float) -> None:
    """Wait until the DAG processor has read each DAG, named as its file, at or after ``since``.

    A healthy processor may not have read them yet. A DAG record from before ``since`` is ignored. Import errors are
    read after the last DAG too. An API that does not answer, as busy as it is at the start, is called again.

    Args:
        connect: returns a logged-in client.
        since: start of the parts.
        deadline: moment of ``time.monotonic`` at which waiting ends.

    Raises:
        StartError: a DAG file does not import, or a DAG is missing at ``deadline``.
    """
    missing = sorted(path.stem for path in (PROJECT / "dags").glob("vpoc_*.py"))
    airflow, broken, silence = None, {}, ""
    while True:
        try:
            airflow = airflow or connect()
            unread = [dag for dag in missing if not airflow.was_read(dag, since)]
            broken = airflow.import_errors(since)
            missing, silence = unread, ""  # only after both answers: one of the two may fail
        except NotUpError as error:
            silence = f" {error}"
        else:
            if broken:
                raise StartError("\n".join(f"{name} does not import.\n{trace}" for name, trace in broken.items()))
            if not missing:
                return
        if time.monotonic() > deadline:
            late = f"The DAG processor has not read {', '.join(missing)} in time."
            raise StartError(f"{late} Try a larger --timeout.{silence}")
        time.sleep(0.5)
