"""``python -m vpoc_ops.health PART``: the health check of one container; exit code 0 if its part is healthy.

It imports no Airflow: Airflow's own checks cost 2.6 CPU seconds each, more than a busy machine has within their time
limit. Parts: ``api``, ``scheduler``, ``dag-processor``, ``triggerer``, ``mlflow``, ``worker``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any

TIMEOUT = 5.0
"""Seconds until an answer must have come."""
OWN = {
    "api": "http://127.0.0.1:8080/api/v2/monitor/health",
    "scheduler": "http://127.0.0.1:8974/health",
    "mlflow": "http://127.0.0.1:5000/health",
}
"""Parts with a server of their own, and the address that answers in their container."""
REPORTED = {"dag-processor": "dag_processor", "triggerer": "triggerer"}
"""Parts whose heartbeat the API server reports, and their names there."""
PARTS = (*OWN, *REPORTED, "worker")


def main(arguments: list[str]) -> int:
    """Check the part that ``arguments`` names; return 0 (healthy) or 1, with the reason on standard error."""
    if len(arguments) != 1 or arguments[0] not in PARTS:
        sys.stderr.write(f"Expected one of {', '.join(PARTS)}; found {' '.join(arguments) or 'nothing'}.\n")
        return 2
    (part,) = arguments
    try:
        problem = worker_problem(os.environ) if part == "worker" else server_problem(part, os.environ)
    except OSError as error:
        problem = f"no answer: {error}"
    if problem:
        sys.stderr.write(f"{part}: {problem}\n")
    return int(bool(problem))


def server_problem(part: str, environment: Mapping[str, str]) -> str:
    """Return why a part that a server reports on is not healthy; empty if it is.

    Raises:
        OSError: the server does not answer, or answers with an error.
    """
    if part in OWN:
        _answer(OWN[part])
        return ""
    api = environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/")
    report: dict[str, Any] = json.loads(_answer(f"{api}/api/v2/monitor/health"))
    status = report[REPORTED[part]]["status"]
    return "" if status == "healthy" else f"expected healthy, found {status}"


def worker_problem(environment: Mapping[str, str]) -> str:
    """Return why this container's Celery worker does not answer through the broker; empty if it does."""
    from celery import Celery

    name = f"celery@{socket.gethostname()}"
    inspect = Celery(broker=environment["AIRFLOW__CELERY__BROKER_URL"]).control.inspect([name], timeout=TIMEOUT)
    return "" if inspect.ping() else f"{name} did not answer within {TIMEOUT:.0f} s"


def _answer(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - http, from this module or the compose file
        content: bytes = answer.read()
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
