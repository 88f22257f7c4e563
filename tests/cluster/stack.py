"""A cluster of its own for the tests: a Compose project with its own passwords, ports and volumes."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from vpoc_ml.synthetic.generate import write_market
from vpoc_ops import cluster_env

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yaml", "deploy/compose.cpu.yaml", "tests/cluster/compose.test.yaml")
PROJECT = "vpoc-ml-test"
SERVICES = {
    "api-server": 1,
    "dag-processor": 1,
    "mlflow": 1,
    "postgres": 1,
    "redis": 1,
    "scheduler": 1,
    "triggerer": 1,
    "worker": 2,
    "worker-rocm": 1,
}
"""Services that run, and how many containers each has."""
DIGESTS = (ROOT / "tests/cluster/digests.py").read_text()
SLOW_DOWN = """
import signal, time
from contextlib import suppress
import psutil

while True:
    for action, seconds in ((signal.SIGSTOP, 0.9), (signal.SIGCONT, 0.1)):
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if "vpoc_ml.training" in process.cmdline():
                    process.send_signal(action)
        time.sleep(seconds)
"""
ENDED = ("success", "failed")


class Stack:
    """The cluster, as Compose and as REST.

    Attributes:
        values: variables of its ``.env``.
        url: address of the API server.
        mlflow: address of MLflow.
    """

    def __init__(self, folder: Path, raw: Path) -> None:
        values = cluster_env.settings({}, gpu=folder / "no-gpu") | {
            "COMPOSE_FILE": ":".join(FILES),
            "COMPOSE_PROJECT_NAME": PROJECT,
            "VPOC_RAW": str(raw),
            "WORKERS": str(SERVICES["worker"]),
            "UI_PORT": str(free_port()),
            "MLFLOW_PORT": str(free_port()),
            "S3_PORT": str(free_port()),
        }
        self.env_file = folder / ".env"
        if not self.env_file.exists():
            cluster_env.write(self.env_file, values)
        self.values = dict(line.split("=", 1) for line in self.env_file.read_text().splitlines())
        self.url = f"http://127.0.0.1:{self.values['UI_PORT']}"
        self.mlflow = f"http://127.0.0.1:{self.values['MLFLOW_PORT']}"
        self.tokens: dict[str, str] = {}

    def compose(self, *words: str, timeout: float = 600) -> str:
        """Run Docker Compose on the cluster and return what it prints; a failure shows its errors."""
        command = [*shlex.split(os.environ.get("COMPOSE", "docker compose")), "--env-file", str(self.env_file), *words]
        return run(command, timeout)

    def start(self) -> float:
        """Start everything and wait until it is healthy; return the seconds that took."""
        begin = time.monotonic()
        self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "480")
        return time.monotonic() - begin

    def stop(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "5")

    def change(self, values: dict[str, str]) -> float:
        """Change variables of ``.env`` and replace the containers that they concern; return the seconds that took."""
        self.values |= values
        self.env_file.unlink()
        cluster_env.write(self.env_file, self.values)
        return self.start()

    def containers(self, service: str) -> list[str]:
        """Return the ids of the running containers of a service."""
        return self.compose("ps", "--quiet", service).split()

    def inside(self, service: str, command: str, index: int = 0) -> str:
        """Run a shell command in a container of a service and return what it prints."""
        return run(["docker", "exec", self.containers(service)[index], "sh", "-c", command], 600)

    def digests(self, run: str) -> dict[str, str]:
        """Return the SHA-256 of what a run in the lake of the cluster has left, by file."""
        return parsed_digests(self.inside("worker", f"python -c {shlex.quote(DIGESTS)} /lake {shlex.quote(run)}"))

    def kill(self, service: str, index: int = 0) -> None:
        """Kill every process of a container, as a crash does; return when its restart policy has started it again."""
        container = self.containers(service)[index]
        before = started(container)
        # its own exit code says nothing: the shell may be killed before it can report one
        killing = ["docker", "exec", container, "sh", "-c", "kill -9 -1"]
        done = subprocess.run(killing, check=False, capture_output=True, text=True)
        what = f"{service} started again after {before}; the kill ended with {done.returncode} {done.stderr}"
        wait_until(lambda: started(container) != before, 60, what, 0.2)

    def slow_down(self, service: str) -> None:
        """Let trainings in the first container of a service run a tenth of the time, until its processes are killed."""
        run(["docker", "exec", "--detach", self.containers(service)[0], "python", "-c", SLOW_DOWN], 60)

    @contextmanager
    def partition(self, service: str) -> Iterator[None]:
        """Cut the first container of a service off from all others while the block runs."""
        container, network = self.containers(service)[0], f"{PROJECT}_default"
        run(["docker", "network", "disconnect", network, container], 60)
        try:
            yield
        finally:
            run(["docker", "network", "connect", "--alias", service, network, container], 60)

    def replace(self, services: Iterable[str]) -> float:
        """Replace the containers of services by new ones, as an upgrade does; return the seconds until healthy."""
        begin = time.monotonic()
        up = ("up", "--detach", "--no-build", "--force-recreate", "--wait", "--wait-timeout", "300")
        self.compose(*up, *services)
        return time.monotonic() - begin

    def wait_healthy(self, service: str, timeout: float = 240) -> float:
        """Wait until every container of a service is healthy; return the seconds that took."""
        template = "{{.State.Status}} {{.State.Health.Status}}"

        def healthy() -> bool:
            ids = self.containers(service)
            states = [run(["docker", "inspect", "--format", template, each], 60).strip() for each in ids]
            return len(states) == SERVICES[service] and set(states) == {"running healthy"}

        return wait_until(healthy, timeout, f"{service} healthy")

    def call(self, method: str, path: str, body: Any = None, user: str = "admin") -> httpx.Response:
        """Send a request as one of the users, or as nobody (empty name)."""
        headers = {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        return httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)

    def ask_mlflow(self, method: str, path: str, body: Any = None, user: str = "viewer") -> httpx.Response:
        """Send a request to MLflow as one of the users, or as nobody (empty name)."""
        login = (user, self.values[f"{user.upper()}_PASSWORD"]) if user else None
        return httpx.request(method, f"{self.mlflow}{path}", json=body, auth=login, timeout=60)

    def remote(self, user: str = "operator") -> dict[str, str]:
        """Return the environment of a command outside the cluster that drives its Airflow."""
        login = {"VPOC_AIRFLOW_USER": user, "VPOC_AIRFLOW_PASSWORD": self.values[f"{user.upper()}_PASSWORD"]}
        return {**os.environ, "VPOC_AIRFLOW_URL": self.url, **login}

    def token(self, user: str) -> str:
        """Return the token of a user; logs in once."""
        if user not in self.tokens:
            login = {"username": user, "password": self.values[f"{user.upper()}_PASSWORD"]}
            answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=60)
            answer.raise_for_status()
            self.tokens[user] = answer.json()["access_token"]
        return self.tokens[user]

    def get(self, path: str) -> Any:
        """Return the JSON at a path; an API server that is away is called again for a minute."""
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self.call("GET", path)
                if answer.status_code < 500:
                    answer.raise_for_status()
                    return answer.json()
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"Expected {path} to answer within a minute.")
            time.sleep(1)

    def trigger(self, dag: str, conf: dict[str, Any], key: str | None = None) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": conf} | ({"partition_key": key} if key else {})
        answer = self.call("POST", f"/api/v2/dags/{dag}/dagRuns", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["dag_run_id"])

    def run(self, dag: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        found: dict[str, Any] = self.get(f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}")
        return found

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=200"
        found: list[dict[str, Any]] = self.get(path)["task_instances"]
        return found

    def task(self, dag: str, run_id: str, name: str) -> dict[str, Any]:
        """Return the only instance of a task."""
        (found,) = [each for each in self.tasks(dag, run_id) if each["task_id"] == name]
        return found

    def log(self, dag: str, run_id: str, task: str, attempt: int) -> str:
        """Return the log of one try of a task, as the UI reads it."""
        run_path = f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}"
        content = self.get(f"{run_path}/taskInstances/{task}/logs/{attempt}?map_index=-1&full_content=true")["content"]
        return "\n".join(json.dumps(line) for line in content)

    def wait(self, dag: str, run_ids: Sequence[str], timeout: float) -> list[str]:
        """Wait until runs have ended; return their states."""
        wait_until(lambda: all(self.run(dag, each)["state"] in ENDED for each in run_ids), timeout, f"{dag} ended", 2)
        return [self.run(dag, each)["state"] for each in run_ids]

    def account(self, dag: str, run_id: str, task: str, service: str) -> str:
        """Return what is known of a task and of the first container of the service in which it should run."""
        found = self.task(dag, run_id, task)
        container = self.containers(service)[0]
        return "\n".join(
            [
                *(f"{name}: {found[name]}" for name in ("state", "try_number", "hostname", "pid", "start_date")),
                f"container {container[:12]} started {started(container)}",
                self.inside(service, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
                run(["sh", "-c", f"docker logs --tail 40 {container} 2>&1"], 60),
                self.compose("logs", "--no-color", "--tail", "40", "scheduler"),
                self.log(dag, run_id, task, found["try_number"])[-4000:],
            ]
        )

    def unfinished(self, dag: str, run_id: str) -> str:
        """Return the tasks of a run that have not succeeded, one line each, and what uses its pools."""
        tasks = [each for each in self.tasks(dag, run_id) if each["state"] != "success"]
        lines = [f"{each['task_id']}: {each['state']}, queue {each['queue']}, pool {each['pool']}" for each in tasks]
        pools = {each["name"]: each for each in self.get("/api/v2/pools")["pools"]}
        return "\n".join([*lines, *(json.dumps(pools[name]) for name in sorted({each["pool"] for each in tasks}))])

    def failures(self, dag: str, run_id: str) -> str:
        """Return the end of the log of each failed task of a run."""
        failed = [each for each in self.tasks(dag, run_id) if each["state"] == "failed"]
        return "\n".join(
            f"{each['task_id']}\n{self.log(dag, run_id, each['task_id'], each['try_number'])[-4000:]}"
            for each in failed
            if each["map_index"] == -1
        )


class CommandLine:
    """Runs without Airflow, one after the other, in a container and a lake of their own."""

    def __init__(self, raw: Path) -> None:
        options = [
            "--rm",
            "--detach",
            "--init",
            "--volume",
            f"{raw}:/lake/raw:ro",
            "--env",
            "VPOC_REGISTRY=/tmp/registry",
        ]
        self.container = run(["docker", "run", *options, "vpoc-ml:airflow", "sleep", "infinity"], 60).strip()

    def start(self, name: str, settings: dict[str, Any]) -> subprocess.Popen[str]:
        """Start a run; ``digests_of`` waits for it."""
        options = " ".join(f"-o {shlex.quote(f'{key}={value}')}" for key, value in settings.items())
        command = (
            f"vpoc-ml run {name} --lake /tmp/cli --raw /lake/raw --preset smoke {options} >/tmp/{name}.log 2>&1"
            f" && python -c {shlex.quote(DIGESTS)} /tmp/cli {name} || {{ tail -n 50 /tmp/{name}.log >&2; exit 1; }}"
        )
        words = ["docker", "exec", self.container, "sh", "-c", command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self) -> None:
        """Remove the container, with a run that still goes on."""
        run(["docker", "rm", "--force", self.container], 60)


def run(command: Sequence[str], timeout: float) -> str:
    """Run a command in the project's folder and return its output.

    Raises:
        RuntimeError: it fails; the message has what it printed.
    """
    # Compose prefers variables of the process to those of its file: the tests' own lake is none of the cluster's
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_", "VPOC_LAKE"))}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{shlex.join(command)}: exit code {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-8000:]}"
        )
    return done.stdout


def market(folder: Path, contracts: int) -> Path:
    """Write a synthetic market into ``raw`` of a folder, if it is absent, readable to every user of a container."""
    raw = folder / "raw"
    if not raw.is_dir():
        write_market(raw, contracts=contracts, seed=7, mode="linear")
    for path in (folder, raw, *raw.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return raw


def digests_of(command_line: subprocess.Popen[str]) -> dict[str, str]:
    """Wait for a run of the command line; return the SHA-256 of what it has left, by file."""
    shown, errors = command_line.communicate(timeout=1800)
    assert command_line.returncode == 0, errors[-8000:]
    return parsed_digests(shown)


def parsed_digests(shown: str) -> dict[str, str]:
    """Return what digests.py has printed."""
    found: dict[str, str] = json.loads(shown)
    assert len(found) > 10
    return found


def started(container: str) -> str:
    """Return when the processes of a container were started."""
    return run(["docker", "inspect", "--format", "{{.State.StartedAt}}", container], 60).strip()


def wait_until(
    condition: Callable[[], bool], timeout: float, what: str, pause: float = 1, found: Callable[[], str] = str
) -> float:
    """Wait for a condition; return the seconds that took.

    Args:
        condition: true at the end.
        timeout: seconds.
        what: what the condition says.
        pause: seconds between two looks.
        found: describes what is there instead.

    Raises:
        TimeoutError: it is not true in time.
    """
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout:
            raise TimeoutError(f"Expected {what} within {timeout:.0f} s. {found()}".rstrip())
        time.sleep(pause)
    return time.monotonic() - begin


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
