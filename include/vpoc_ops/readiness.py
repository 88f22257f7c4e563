"""Whether the parts of an Airflow are healthy and have read the DAGs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path

from airflow_client.client import HealthInfoResponse

from vpoc_ml.environment import PROJECT
from vpoc_ops.client import Airflow, NotUpError, health
from vpoc_ops.parts import PARTS, StartError, log_of, log_tail

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
