"""Tests on a running cluster: `make cluster-test`. One cluster serves all of them, in the order of the files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vpoc_ml.synthetic.generate import write_market

from .stack import Stack

SETTINGS = {
    "training.epochs": 24,
    "model.hidden_dims": "32,32",
    "dataset.train_share": 0.5,
    "dataset.validation_share": 0.1,
}
"""What preset smoke needs to find the planted signal and to show it."""
TIMES: list[tuple[str, float]] = []
"""What happened, and how many seconds it took; printed at the end."""


@pytest.fixture(scope="session")
def took() -> Any:
    """Record a duration: ``took("cluster healthy", 61.5)``."""
    return lambda what, seconds: TIMES.append((what, seconds))


@pytest.fixture(scope="session")
def stack(took: Any) -> Iterator[Stack]:
    """The cluster, healthy: two default workers, one of queue rocm, a market of four contracts."""
    with tempfile.TemporaryDirectory(prefix="vpoc-cluster-") as name:
        folder = Path(name)
        raw = folder / "raw"
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
            cluster.stop()


@pytest.fixture(scope="session")
def night(stack: Stack, took: Any) -> str:
    """The id of a nightly run that has succeeded."""
    run_id = stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": SETTINGS})
    (state,) = stack.wait("vpoc_nightly", [run_id], 1800)
    assert state == "success", stack.failures("vpoc_nightly", run_id)
    took("nightly run", stack.run("vpoc_nightly", run_id)["duration"])
    return run_id


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of durations."""
    for what, seconds in TIMES:
        terminalreporter.write_line(f"{seconds:8.1f} s  {what}")
