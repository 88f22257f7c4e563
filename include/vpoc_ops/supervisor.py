"""``python -m vpoc_ops.supervisor up|down|airflow|alert-test``: Airflow's four parts and MLflow's UI on the loopback.

Airflow's own ``standalone`` leaves its children running after SIGTERM and opens log servers on every interface. Here
each part is started and stopped by itself, and ``down`` leaves no process behind. ``airflow`` is Airflow's own command
line on what ``up`` started, or on an Airflow elsewhere.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

from vpoc_ml import environment
from vpoc_ml.errors import ConfigError
from vpoc_ops import command_line, parts
from vpoc_ops.airflow_home import PARTS_FILE, PASSWORDS_FILE, UP_HOME, airflow_env, merged
from vpoc_ops.client import Airflow, NotUpError, RefusedError, connect
from vpoc_ops.command_line import HomeOption
from vpoc_ops.parts import MLFLOW, PARTS, PartsState, StartError

MLFLOW_PORT, MOST_PORTS = 5000, 20
"""Port of MLflow's UI, and how many are tried from there on."""

console = Console(soft_wrap=True, highlight=False)
app = command_line.new_app(__doc__)


@app.command("up")
def up_command(
    home: HomeOption = UP_HOME,
    lake: Annotated[str | None, typer.Option("--lake", envvar=environment.LAKE, help="A folder or a URL.")] = None,
    port: Annotated[int, typer.Option("--port", help="Port of the API server.")] = 8080,
    mlflow_port: Annotated[
        int, typer.Option("--mlflow-port", help="Port of MLflow's UI; a taken one: the next free one.")
    ] = MLFLOW_PORT,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds until all parts must be healthy.")] = 180.0,
) -> None:
    """Start the parts that do not run; return once all are healthy and every DAG can be triggered."""
    try:
        code = up(home.absolute(), lake, port, timeout, mlflow_port)
    except StartError as error:
        console.print(f"[bold red]Airflow did not start.[/] {error}")
        code = 1
    raise typer.Exit(code)


@app.command("down")
def down_command(home: HomeOption = UP_HOME) -> None:
    """Stop what ``up`` started."""
    raise typer.Exit(down(home.absolute()))


# --help is that of Airflow
@app.command("airflow", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def airflow_command(
    words: Annotated[list[str], typer.Argument(help="Words of Airflow's command line.")] = [],  # noqa: B006
    home: HomeOption = UP_HOME,
) -> None:
    """Run ``airflow`` on what ``up`` started, or ``airflowctl`` on the Airflow that ``VPOC_AIRFLOW_URL`` names.

    The exit code is that of the command.
    """
    home = home.absolute()
    if environment.read(environment.AIRFLOW_URL):
        raise typer.Exit(airflowctl(home, words))
    if not parts.living(home):
        typer.echo(f"Expected a running Airflow in {home}; found none. Start it with `make up`.")
        raise typer.Exit(2)
    command = [sys.executable, "-m", "airflow", *words]
    raise typer.Exit(subprocess.run(command, env=parts.environment_of(home), check=False).returncode)


def airflowctl(home: Path, words: Sequence[str]) -> int:
    """Run ``airflowctl``, Airflow's command line over REST, on the Airflow that ``connect(home)`` finds.

    Returns:
        Its exit code, or 2 if nobody answers or the login is refused.
    """
    try:
        airflow = connect(home)
    except (NotUpError, RefusedError, ConfigError) as error:
        console.print(f"[bold red]Refused.[/] {error}")
        return 2
    # it reads the address from a file of its home, and the token from a keyring unless a variable has one
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "remote.json").write_text(json.dumps({"api_url": airflow.url}))
        variables = {"AIRFLOW_HOME": folder, "AIRFLOW_CLI_ENVIRONMENT": "remote", "AIRFLOW_CLI_TOKEN": airflow.token}
        command = [sys.executable, "-m", "airflowctl", *words]
        return subprocess.run(command, env=os.environ | variables, check=False).returncode


@app.command("alert-test")
def alert_test_command(
    home: HomeOption = UP_HOME, as_json: Annotated[bool, typer.Option("--json", help="One JSON line.")] = False
) -> None:
    """Send a test alert through every channel, in the environment of this process's Airflow, else of ``make up``'s."""
    home = home.absolute()
    if "AIRFLOW_HOME" in os.environ:
        env = dict(os.environ)
    elif parts.living(home):
        env = parts.environment_of(home)
    else:  # only connections of the environment are known
        env = merged(airflow_env(home, None))
    env |= {"_AIRFLOW_PROCESS_CONTEXT": "server", "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}  # reads the database
    command = [sys.executable, "-m", "vpoc_airflow.alert_test", *(["--json"] if as_json else [])]
    raise typer.Exit(subprocess.run(command, env=env, check=False).returncode)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return command_line.run(app, arguments)


def up(home: Path, lake: str | None, port: int, timeout: float, mlflow_port: int = MLFLOW_PORT) -> int:
    """Start the parts that do not run, detached, and return once all are healthy and every DAG can be triggered.

    Running parts are left alone. If no part runs, processes that the last start left behind are stopped first.

    Args:
        home: Airflow's folder.
        lake: folder or URL; None: the running parts' own, else the lake of this process's environment.
        port: port of the API server if no part runs yet.
        timeout: seconds until all parts must be healthy.
        mlflow_port: port of MLflow's UI if no part runs yet; if it is taken, the next free one.

    Returns:
        The exit code: 0 all four parts run, 1 a part does not, 2 the running parts serve another lake than ``lake``.

    Raises:
        StartError: no part ran, and the port is taken, the database cannot be made, a part ended or is not healthy in
            time, a DAG does not import or was not read in time. Nothing runs afterwards.
    """
    state, running = parts.stored_state(home), parts.living(home)
    if state and running:
        return _complete(home, state, running, lake, timeout)
    if leftover := parts.supervised(home):
        console.print(f"None of the four parts runs. Stopping {len(leftover)} processes that they left behind.")
        if down(home, grace=0):  # nobody is left to stop them in order
            return 1
    _require_free(port)
    begin = time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    password = _new_password(home)
    lake = environment.lake_uri(lake)
    instrument = environment.read(environment.INSTRUMENT)
    state = PartsState(
        url=f"http://127.0.0.1:{port}", lake=lake, instrument=instrument, boot=parts.boot_id(), **_mlflow(mlflow_port)
    )
    prepare_database(home, state)
    state.store(home)
    try:
        _start(home, state.names, state, timeout - (time.monotonic() - begin))
    except BaseException:
        down(home)  # Ctrl-C too leaves no process behind
        raise
    login = f"admin / {password}" if password else f"admin, password in {home / PASSWORDS_FILE}"
    console.print(
        f"Airflow is up after {time.monotonic() - begin:.0f} s: {', '.join(PARTS)} run.\n{state.url}, lake {lake}\n"
        f"{_mlflow_line(home, state)}login {login}\nlogs  {parts.log_of(home, PARTS[0]).parent}"
    )
    return 0


def _complete(home: Path, state: PartsState, running: Sequence[str], lake: str | None, timeout: float) -> int:
    """Start the parts that have ended beside the ``running`` ones, which are left alone; refuse another lake."""
    wanted = environment.lake_uri(lake) if lake else state.lake
    if wanted != state.lake:
        console.print(
            f"[bold red]Refused.[/] Expected the lake of the running Airflow, {state.lake}; was {wanted}."
            f" Airflow serves one lake at a time: stop it with `make down`, then `make up LAKE={wanted}`."
        )
        return 2
    where, names = f"{state.url}, lake {state.lake}", ", ".join(running)
    alive = parts.living(home, state.names)
    ended = [name for name in state.names if name not in alive]
    if ended:
        console.print(f"{names} run; {', '.join(ended)} ended and will be started again; {where}.")
        parts.end_parts(home, ended)  # what the ended parts have left behind
    try:
        if ended:
            _start(home, ended, state, timeout)
        else:
            parts.wait_until_healthy(home, state.url, {}, None, timeout)
    except BaseException as error:
        parts.end_parts(home, ended)
        if not isinstance(error, StartError):
            raise
        verb = "did not start again" if ended else "run, but not all are healthy"
        console.print(
            f"[bold red]{', '.join(ended or running)} {verb}.[/] Running: {', '.join(parts.living(home)) or 'none'};"
            f" {where}.\n{error}\n`make down`, then `make up` starts all four parts anew."
        )
        return 1
    if ended:
        log = parts.log_of(home, "PART")
        console.print(f"Airflow is up: {', '.join(PARTS)} run; {where}. The log of an ended part: {log}.1")
        console.print(_mlflow_line(home, state), end="")
    else:
        console.print(f"Already up: {names} run; {where}. `make down` stops them.\n{_mlflow_line(home, state)}", end="")
    return 0


def _start(home: Path, names: Sequence[str], state: PartsState, timeout: float) -> None:
    """Start what is named; wait until all four parts are healthy and every DAG was read. MLflow is not waited for.

    Raises:
        StartError: a part ended or is not healthy in time, or a DAG does not import or was not read in time.
    """
    since, deadline = datetime.now(UTC), time.monotonic() + timeout
    spawned = parts.spawn_parts(home, names, state)
    started = {name: process for name, process in spawned.items() if name != MLFLOW}
    try:
        parts.wait_until_healthy(home, state.url, started, since, timeout)
        if "dag-processor" in started:
            parts.wait_for_dags(lambda: Airflow.of_home(home), since, deadline)
    except (NotUpError, RefusedError) as error:
        raise StartError(f"Its API refused a request: {error}") from error


def down(home: Path, grace: float = 20.0) -> int:
    """Ask each part to stop, wait ``grace`` seconds, then kill every process of ``home`` that is left.

    Returns:
        The exit code: 1 if a process is left.
    """
    begin = time.monotonic()
    processes = parts.supervised(home)
    if not processes:
        console.print("Not up: nothing to stop.")
        return 0
    mains = set(parts.main_ids(home).values())
    for process in processes:
        if process.pid in mains:
            parts.signal_if_alive(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    leftover = {*alive, *parts.supervised(home)}
    for process in leftover:
        parts.signal_if_alive(process.kill)
    psutil.wait_procs(leftover, timeout=5)
    if remaining := parts.supervised(home):
        ids = ", ".join(str(process.pid) for process in remaining)
        console.print(f"[bold red]Airflow is not down.[/] Expected no process to be left; these still run: {ids}.")
        return 1
    (home / PARTS_FILE).unlink(missing_ok=True)
    killed = f", {len(leftover)} had to be killed" if leftover else ""
    console.print(f"Airflow is down after {time.monotonic() - begin:.0f} s: {len(processes)} processes ended{killed}.")
    return 0


def _mlflow(port: int) -> dict[str, Any]:
    """Return the fields of the state about MLflow: with ``MLFLOW_TRACKING_URI`` there is a server already."""
    named, tracking = environment.read(environment.MLFLOW_URL), os.environ.get("MLFLOW_TRACKING_URI")
    if tracking:
        return {"mlflow": named or (tracking if tracking.startswith("http") else None)}
    free = next((each for each in range(port, port + MOST_PORTS) if _taken(each) is None), port)
    return {"mlflow": f"http://127.0.0.1:{free}", "mlflow_port": free}


def _mlflow_line(home: Path, state: PartsState) -> str:
    """Return a line about MLflow's UI; "" where there is none."""
    if state.mlflow is None:
        return ""
    if state.mlflow_port is None:
        return f"MLflow {state.mlflow}\n"
    if not parts.living(home, [MLFLOW]):
        return f"MLflow did not start; the log says why: {parts.log_of(home, MLFLOW)}\n"
    return f"MLflow {state.mlflow}{'' if _taken(state.mlflow_port) else ', starting'}\n"


def _require_free(port: int) -> None:
    if reason := _taken(port):
        raise StartError(f"Port {port} of 127.0.0.1 is taken ({reason}). Choose one: PORT=8081.")


def _taken(port: int) -> str | None:
    """Return why a port of the loopback cannot be used; None if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def _new_password(home: Path) -> str | None:
    """Write a random admin password once per home; return it if it is new."""
    path = home / PASSWORDS_FILE
    if path.is_file():
        return None
    password = secrets.token_urlsafe(12)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"admin": password}))
    return password


def prepare_database(home: Path, state: PartsState) -> None:
    """Create or migrate the database of ``home`` and its pool, in a process of its own.

    Raises:
        StartError: that failed; the message has the end of its log.
    """
    log = parts.log_of(home, "prepare")
    with log.open("w") as file:
        command = [sys.executable, "-m", "vpoc_ops.airflow_home"]
        variables = parts.environment_of(home, state)
        done = subprocess.run(command, env=variables, stdout=file, stderr=file, cwd=environment.PROJECT, check=False)
    if done.returncode:
        raise StartError(f"The database could not be prepared.\n{parts.log_tail(log)}")


if __name__ == "__main__":
    sys.exit(main())
