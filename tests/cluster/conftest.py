"""Tests on a running cluster: `make cluster-test`. One cluster serves all of them, in the order of the files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vpoc_ml.synthetic.generate import write_market

from .stack import Stack, digests_of

SETTINGS = {
    "training.epochs": 24,
    "model.hidden_dims": "32,32",
    "dataset.train_share": 0.5,
    "dataset.validation_share": 0.1,
}
"""What preset smoke needs to find the planted signal and to show it."""
KEEP = os.environ.get("CLUSTER_KEEP")
TIMES: list[tuple[str, float]] = []
"""What happened, and how many seconds it took; printed at the end."""


@pytest.fixture(scope="session")
def took() -> Any:
    """Record a duration: ``took("cluster healthy", 61.5)``."""
    return lambda what, seconds: TIMES.append((what, seconds))


@pytest.fixture(scope="session")
def stack(took: Any) -> Iterator[Stack]:
    """The cluster, healthy: two default workers, one of queue rocm, a market of four contracts.

    ``CLUSTER_KEEP`` names a folder: its cluster is used if it is there, and runs on after the tests. So does its night.
    """
    with tempfile.TemporaryDirectory(prefix="vpoc-cluster-") as name:
        folder = Path(KEEP or name)
        raw = folder / "raw"
        if not raw.is_dir():
            write_market(raw, contracts=4, seed=7, mode="linear")
        for path in (folder, raw, *raw.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        cluster = Stack(folder, raw)
        try:
            took("start to healthy", cluster.start())
            yield cluster
        finally:
            log = Path(tempfile.gettempdir()) / "vpoc-cluster-test.log"
            log.write_text(cluster.compose("logs", "--no-color"))
            if not KEEP:
                cluster.stop()


@pytest.fixture(scope="session")
def command_line(stack: Stack) -> dict[str, str]:
    """SHA-256 of what a run of the command line with the settings of ``night`` leaves, by file."""
    return digests_of(stack.on_command_line("cli", SETTINGS))


@pytest.fixture(scope="session")
def backfill(stack: Stack) -> list[str]:
    """The ids of the runs of a backfill of four contracts that has begun."""
    body = {
        "dag_id": "vpoc_contracts",
        "from_date": "2023-01-01T00:00:00Z",
        "to_date": "2023-12-31T00:00:00Z",
        "dag_run_conf": {"preset": "smoke"},
        "max_active_runs": 4,
    }
    answer = stack.call("POST", "/api/v2/backfills", body)
    assert answer.status_code == 200 or KEEP, answer.text
    runs = stack.get("/api/v2/dags/vpoc_contracts/dagRuns?run_type=backfill")["dag_runs"]
    assert sorted(each["partition_key"] for each in runs) == ["ESH23", "ESM23", "ESU23", "ESZ23"]
    return [each["dag_run_id"] for each in runs]


@pytest.fixture(scope="session")
def night(stack: Stack, backfill: list[str], took: Any) -> str:
    """The id of a nightly run that has succeeded; it began beside the backfill."""
    if KEEP and (known := stack.get("/api/v2/dags/vpoc_nightly/dagRuns?state=success")["dag_runs"]):
        return str(known[0]["dag_run_id"])
    run_id = stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": SETTINGS})
    (state,) = stack.wait("vpoc_nightly", [run_id], 1800)
    assert state == "success", stack.failures("vpoc_nightly", run_id)
    took("nightly run beside the backfill", stack.run("vpoc_nightly", run_id)["duration"])
    return run_id


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of durations."""
    for what, seconds in TIMES:
        terminalreporter.write_line(f"{seconds:8.1f} s  {what}")
