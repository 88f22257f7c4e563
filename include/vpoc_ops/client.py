"""The running Airflow of one home, over its REST API. Standard library only."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

Json = dict[str, Any]
PAGE = 100
FINISHED = ("success", "failed")
UNANSWERED = (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException)
"""What a request raises when nobody answers, or not in HTTP."""


class NotUpError(Exception):
    """There is no Airflow to talk to."""


class RefusedError(Exception):
    """Airflow answered with an error; ``status`` is HTTP's, the text is Airflow's own reason."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class Airflow:
    """A client that logs in as ``admin`` of the Airflow that ``vpoc_ops.supervisor up`` started in ``home``."""

    def __init__(self, home: Path) -> None:
        parts, passwords = home / "parts.json", home / "passwords.json"
        if not (parts.is_file() and passwords.is_file()):
            raise NotUpError(f"Expected a running Airflow in {home}; found none. Start it with `make up`.")
        state = json.loads(parts.read_text())
        self.url, self.lake = str(state["url"]), str(state["lake"])
        self._token = ""
        password = json.loads(passwords.read_text())["admin"]
        self._token = self.call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Return the JSON answer of one request.

        Raises:
            RefusedError: any answer but success.
            NotUpError: nobody answers.
        """
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
                found: Json = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise RefusedError(error.code, _reason(error)) from error
        except UNANSWERED as error:
            raise NotUpError(f"Expected Airflow to answer at {self.url}; {error}. Start it with `make up`.") from error

    def knows(self, dag: str, since: datetime) -> bool:
        """Tell whether a DAG can be triggered and was read at or after ``since``: an old database knows old DAGs.

        Airflow answers 404 until the DAG processor has stored it.
        """
        try:
            found = self.call("GET", f"/api/v2/dags/{dag}/details")
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        read = found["last_parsed_time"]
        return not found["is_stale"] and read is not None and datetime.fromisoformat(read) >= since

    def import_errors(self, since: datetime) -> dict[str, str]:
        """Return the DAG files that did not import when last read, at or after ``since``, each with its stack trace."""
        found = self.call("GET", f"/api/v2/importErrors?limit={PAGE}")["import_errors"]
        fresh = [error for error in found if datetime.fromisoformat(error["timestamp"]) >= since]
        return {error["filename"]: error["stack_trace"] for error in fresh}

    def runs(self, dag: str, **filters: str) -> Iterator[Json]:
        """Yield the runs of a DAG, newest first."""
        seen, total = 0, 1
        while seen < total:
            query = urlencode({"limit": PAGE, "offset": seen, "order_by": "-run_after", **filters})
            page = self.call("GET", f"/api/v2/dags/{dag}/dagRuns?{query}")
            yield from page["dag_runs"]
            seen, total = seen + PAGE, page["total_entries"]

    def run(self, dag: str, run_id: str) -> Json:
        """Return one run."""
        return self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}")

    def trigger(self, dag: str, run_id: str, conf: Mapping[str, Any], partition_key: str | None = None) -> Json:
        """Start a run by hand and return it."""
        body = {"logical_date": None, "dag_run_id": run_id, "conf": dict(conf)}
        return self.call(
            "POST",
            f"/api/v2/dags/{dag}/dagRuns",
            body | ({} if partition_key is None else {"partition_key": partition_key}),
        )

    def result(self, dag: str, run_id: str, task: str) -> Json | None:
        """Return what a task of a run returned, or None when it has not."""
        path = f"/api/v2/dags/{dag}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}/xcomEntries/return_value"
        try:
            value = self.call("GET", path)["value"]
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        found: Json = json.loads(value) if isinstance(value, str) else value
        return found

    def finished(self, dag: str, run_ids: list[str], timeout: float, tell: Any = lambda run: None) -> dict[str, Json]:
        """Wait until the runs are over or ``timeout`` seconds have passed; return each run as it then is.

        ``tell`` is called with a run whenever its state has changed.
        """
        deadline, states = time.monotonic() + timeout, dict.fromkeys(run_ids, "")
        while True:
            runs = {run_id: self.run(dag, run_id) for run_id in run_ids}
            for run_id, run in runs.items():
                if run["state"] != states[run_id]:
                    tell(run)
                states[run_id] = run["state"]
            if all(state in FINISHED for state in states.values()) or time.monotonic() > deadline:
                return runs
            time.sleep(2)


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        detail = json.loads(text)["detail"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {error.code}: {text[:500]}"
    if isinstance(detail, list) and all(isinstance(item, dict) for item in detail):
        return "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in detail)
    return str(detail)
