"""One run in a process group of its own, which a test may kill at any moment."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from vpoc_ml import pipeline
from vpoc_ml.pipeline.stages import STAGE_NAMES, STAGES

from .conftest import NOW

WORK = (*STAGE_NAMES, "publish-reports")
PRELOADED = ["mlflow", "torch", "vpoc_ml.pipeline.stages", "vpoc_ml.pipeline.report_stage"]
PRELOADED += sorted({f"vpoc_ml.pipeline.{stage.module}" for stage in STAGES})
PRELOADED += [
    "vpoc_ml.quality.gates",
    "vpoc_ml.reports.gate_pages",
    "vpoc_ml.evaluation.evaluate",
    "vpoc_ml.registry.store",
]
PRELOADED += ["vpoc_ml.reports.run_report", "vpoc_ml.ingest.discover", "vpoc_ml.features.build"]
PRELOADED += ["vpoc_ml.reports.charts", "vpoc_ml.leakage.invariance"]
PRELOADED += [
    "vpoc_ml.training.launch.subprocess",
    "vpoc_ml.quality.validate",
    "vpoc_ml.dataset.splits",
]
PRELOADED += [
    "great_expectations.data_context.data_context.ephemeral_data_context",
    "great_expectations.datasource.fluent",
]
PRELOADED += ["matplotlib.backends.backend_svg", "sklearn.linear_model", "mlflow.store.tracking.sqlalchemy_store"]
PRELOADED += ["mlflow.store.model_registry.sqlalchemy_store"]
"""What the stages import, loaded once for all runs."""
SETTINGS = {"training.epochs": 2, "machine.engine": "eager", "model.hidden_dims": "4"}
SETTINGS |= {"features.names": "tod_sin,mom_15m", "dataset.train_share": 0.4, "dataset.embargo_sessions": 0}
SETTINGS |= {"evaluation.fold": "contract", "evaluation.min_history_sessions": 8}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(PRELOADED)


def work(lake: str, raw: str, events: Connection) -> None:
    """Take the run through every stage; send each stage's name when it is done, and "end"."""
    os.setsid()
    pipeline.start_run(lake, "night", "smoke", SETTINGS, raw, None, NOW)
    pipeline.run_until(lake, "night", STAGE_NAMES[-1], NOW, on_stage=lambda result: events.send(result.stage))
    pipeline.publish_reports(lake, "night", NOW)
    events.send("publish-reports")


def run(lake: Path, raw: Path, *, kill_in: str | None = None, after: float = 0.0) -> tuple[int, dict[str, float]]:
    """Run until the end, or until ``after`` seconds into the stage ``kill_in``: then the whole group gets SIGKILL.

    Return the exit code and the seconds of each stage that ended.
    """
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(str(lake), str(raw), there))
    process.start()
    there.close()
    seconds: dict[str, float] = {}
    begun = time.monotonic()
    with suppress(EOFError):
        while WORK[len(seconds)] != kill_in if len(seconds) < len(WORK) else True:
            stage = here.recv()
            seconds[stage], begun = time.monotonic() - begun, time.monotonic()
    if kill_in is not None:
        process.join(after)
        with suppress(ProcessLookupError):
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, seconds


def alive(lake: Path) -> list[str]:
    """Return the command lines of the processes that work on ``lake``, a moment later at the latest none."""
    for _ in range(100):
        found = [line for line in _command_lines() if str(lake) in line]
        if not found:
            return []
        time.sleep(0.1)
    return found


def _command_lines() -> list[str]:
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


def artifacts(lake: Path) -> dict[str, str]:
    """Return the SHA-256 of every artifact that must not depend on how often the run was killed."""
    kinds = ("**/*.parquet", "**/best_model.safetensors", "**/final_model.safetensors", "**/feature_statistics.json")
    named_at_random = ("reports", "registry")
    found = {
        path for kind in kinds for path in lake.glob(kind) if path.relative_to(lake).parts[0] not in named_at_random
    }
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


def temporary(lake: Path) -> list[str]:
    """Return the temporary files in ``lake``."""
    return [str(path) for path in lake.rglob("*") if path.name.endswith((".tmp", ".part"))]
