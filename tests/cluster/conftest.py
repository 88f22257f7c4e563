"""Tests on a running cluster: `make cluster-test`. One cluster serves all of them, in the order of the files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .stack import CommandLine, Stack, digests_of, market, wait_until

SETTINGS = {
    "training.epochs": 24,
    "model.hidden_dims": "32,32",
    "dataset.train_share": 0.5,
    "dataset.validation_share": 0.1,
}
"""What preset smoke needs to find the planted signal and to show it."""
STORED = SETTINGS | {"data.contracts": "ESH23,ESM23"}
"""Settings of the nightly run whose lake is in an object store: two of the four contracts."""
FAULTY = SETTINGS | {"training.epochs": 100, "training.patience": 1000, "training.seed": 11}
"""Settings of the nightly run in which the faults happen."""
KEEP = os.environ.get("CLUSTER_KEEP")
TIMES: list[tuple[str, float]] = []
"""What happened, and how many seconds it took; printed at the end."""


@pytest.fixture(scope="session")
def took() -> Any:
    """Record a duration: ``took("cluster healthy", 61.5)``."""
    return lambda what, seconds: TIMES.append((what, seconds))


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Folder of the cluster's ``.env`` and of its market of four contracts, readable to every user of a container."""
    with tempfile.TemporaryDirectory(prefix="vpoc-cluster-") as name:
        folder = Path(KEEP or name)
        market(folder, contracts=4)
        yield folder


@pytest.fixture(scope="session")
def command_line(folder: Path) -> Iterator[CommandLine]:
    """A place for runs without Airflow. The first one, ``stored``, begins before the cluster does."""
    place = CommandLine(folder / "raw")
    yield place
    place.stop()


@pytest.fixture(scope="session")
def stored_running(command_line: CommandLine) -> subprocess.Popen[str]:
    """The command line's run with the settings ``STORED``."""
    return command_line.start("stored", STORED)


@pytest.fixture(scope="session")
def stored(stored_running: subprocess.Popen[str]) -> dict[str, str]:
    """SHA-256 of what the command line's run with the settings ``STORED`` has left, by file."""
    return digests_of(stored_running)


@pytest.fixture(scope="session")
def stack(folder: Path, stored_running: subprocess.Popen[str], took: Any) -> Iterator[Stack]:
    """The cluster, healthy: two default workers, one of queue rocm.

    ``CLUSTER_KEEP`` names a folder: its cluster is used if it is there, and runs on after the tests.
    """
    cluster = Stack(folder, folder / "raw")
    try:
        took("start to healthy", cluster.start())
        yield cluster
    finally:
        log = Path(tempfile.gettempdir()) / "vpoc-cluster-test.log"
        log.write_text(cluster.compose("logs", "--no-color"))
        if not KEEP:
            cluster.stop()


@pytest.fixture(scope="session")
def undisturbed(command_line: CommandLine, stored: dict[str, str]) -> subprocess.Popen[str]:
    """The command line's run with the settings ``FAULTY``, after its first one."""
    return command_line.start("undisturbed", FAULTY)


@pytest.fixture(scope="session")
def backfill_command(stack: Stack) -> Iterator[subprocess.Popen[str]]:
    """A backfill of four contracts, started by the command of `make backfill` outside the cluster."""
    span = ["--from", "2023-01-01", "--to", "2023-12-31", "--parallel", "4", "--conf", '{"preset": "smoke"}']
    command = [sys.executable, "-m", "vpoc_ops.backfill", "range", *span]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=stack.remote())
    yield process
    process.kill()


@pytest.fixture(scope="session")
def backfill(stack: Stack, backfill_command: subprocess.Popen[str]) -> list[str]:
    """The ids of the runs of the backfill, which has begun."""

    def keys() -> dict[str, str]:
        runs = stack.get("/api/v2/dags/vpoc_contracts/dagRuns?run_type=backfill")["dag_runs"]
        return {each["partition_key"]: each["dag_run_id"] for each in runs}

    def started() -> bool:
        assert backfill_command.poll() in (None, 0), backfill_command.communicate()[0]
        return len(keys()) == 4

    wait_until(started, 120, "four runs of the backfill")
    assert sorted(keys()) == ["ESH23", "ESM23", "ESU23", "ESZ23"]
    return list(keys().values())


@pytest.fixture(scope="session")
def night(stack: Stack, backfill: list[str], undisturbed: subprocess.Popen[str]) -> str:
    """The id of a nightly run that has begun beside the backfill; no worker of queue rocm is there."""
    stack.compose("stop", "--timeout", "20", "worker-rocm")
    return stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": FAULTY})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of durations."""
    for what, seconds in TIMES:
        terminalreporter.write_line(f"{seconds:8.1f} s  {what}")
