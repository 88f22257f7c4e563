"""A running Airflow over its REST API: that of one home, or one elsewhere that the environment names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_client.client import (
    ApiClient,
    ApiException,
    BackfillApi,
    BackfillPostBody,
    Configuration,
    DAGApi,
    DagRunApi,
    DAGRunResponse,
    HealthInfoResponse,
    ImportErrorApi,
    MonitorApi,
    TriggerDAGRunPostBody,
    XComApi,
)
from pydantic import ValidationError
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from vpoc_ml import environment
from vpoc_ml.errors import ConfigError
from vpoc_ops.airflow_home import PARTS_FILE, PASSWORDS_FILE

PAGE = 100
TIMEOUT = 60.0
"""Seconds until an answer must have come."""
RETRY = Retry(connect=0, read=1, redirect=0, status=0)
"""A request that changes nothing is repeated once if the server closes a connection that was kept open."""
FINISHED = ("success", "failed")


class NotUpError(Exception):
    """There is no Airflow to talk to."""


class RefusedError(Exception):
    """Airflow answered with an error; ``status`` is HTTP's, the text is Airflow's own reason."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class Airflow:
    """A logged-in client; ``connect`` makes it from the environment.

    Attributes:
        url: address of the API server.
        lake: lake that this Airflow works on; None: unknown to this machine.
        api: logged-in client for requests that this class does not have.

    Every method raises ``RefusedError`` if Airflow answers with an error, and ``NotUpError`` if nobody answers.
    """

    def __init__(self, url: str, lake: str | None, *, user: str = "admin", password: str = "", token: str = "") -> None:
        self.url, self.lake = url.rstrip("/"), lake
        self.api = ApiClient(Configuration(host=self.url, retries=RETRY))
        if token:
            self.api.configuration.access_token = token
        else:
            self._log_in(user, password)

    @classmethod
    def of_home(cls, home: Path) -> Airflow:
        """Return a client that is ``admin`` of the Airflow that ``make up`` started in ``home``."""
        parts, passwords = home / PARTS_FILE, home / PASSWORDS_FILE
        if not (parts.is_file() and passwords.is_file()):
            raise NotUpError(f"Expected a running Airflow in {home}; found none. Start it with `make up`.")
        state = json.loads(parts.read_text())
        return cls(str(state["url"]), str(state["lake"]), password=json.loads(passwords.read_text())["admin"])

    @property
    def token(self) -> str:
        """Return the token of the login."""
        return str(self.api.configuration.access_token)

    def _log_in(self, user: str, password: str) -> None:
        """Get a token. The client library has no method for it: the route is the auth manager's."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        login = {"username": user, "password": password}
        with translated_errors(self.url):
            answer = self.api.call_api("POST", f"{self.url}/auth/token", headers, login, _request_timeout=TIMEOUT)
            text = bytes(answer.read()).decode(errors="replace")  # type: ignore[no-untyped-call]
            if answer.status >= 400:
                raise ApiException(status=answer.status, body=text)
        self.api.configuration.access_token = json.loads(text)["access_token"]

    def is_paused(self, dag: str) -> bool:
        """Return whether a DAG is switched off."""
        with translated_errors(self.url):
            return DAGApi(self.api).get_dag(dag, _request_timeout=TIMEOUT).is_paused

    def was_read(self, dag: str, since: datetime) -> bool:
        """Return whether the DAG processor read a DAG's file at or after ``since``, so that it can be triggered.

        Airflow answers 404 until the processor has stored the DAG. A database of an earlier start has old DAGs.
        """
        try:
            with translated_errors(self.url):
                found = DAGApi(self.api).get_dag_details(dag, _request_timeout=TIMEOUT)
        except RefusedError as error:
            if error.status == 404:
                return False
            raise
        return not found.is_stale and found.last_parsed_time is not None and found.last_parsed_time >= since

    def import_errors(self, since: datetime) -> dict[str, str]:
        """Return the DAG files that did not import when last read, at or after ``since``, each with its stack trace."""
        with translated_errors(self.url):
            found = ImportErrorApi(self.api).get_import_errors(limit=PAGE, _request_timeout=TIMEOUT)
        return {error.filename: error.stack_trace for error in found.import_errors if error.timestamp >= since}

    def runs(self, dag: str, run_type: str | None = None) -> Iterator[DAGRunResponse]:
        """Yield the runs of a DAG, newest first; with ``run_type`` (such as ``backfill``) those of one type."""
        start, total = 0, 1
        while start < total:
            with translated_errors(self.url):
                page = DagRunApi(self.api).get_dag_runs(
                    dag,
                    limit=PAGE,
                    offset=start,
                    order_by=["-run_after"],
                    run_type=None if run_type is None else [run_type],
                    _request_timeout=TIMEOUT,
                )
            yield from page.dag_runs
            start, total = start + PAGE, page.total_entries or 0

    def run(self, dag: str, run_id: str) -> DAGRunResponse:
        """Return one run."""
        with translated_errors(self.url):
            return DagRunApi(self.api).get_dag_run(dag, run_id, _request_timeout=TIMEOUT)

    def trigger(
        self, dag: str, run_id: str, conf: Mapping[str, Any], partition_key: str | None = None
    ) -> DAGRunResponse:
        """Start a run by hand and return it."""
        body = TriggerDAGRunPostBody(logical_date=None, dag_run_id=run_id, conf=dict(conf))
        if partition_key is not None:
            body.partition_key = partition_key
        with translated_errors(self.url):
            return DagRunApi(self.api).trigger_dag_run(dag, body, _request_timeout=TIMEOUT)

    def partitions_of(self, backfill: BackfillPostBody) -> list[str]:
        """Return the partition keys for which Airflow would start a run; a dry run that creates nothing."""
        with translated_errors(self.url):
            found = BackfillApi(self.api).create_backfill_dry_run(backfill, _request_timeout=TIMEOUT)
        return [run.partition_key for run in found.backfills if run.partition_key is not None]

    def create_backfill(self, backfill: BackfillPostBody) -> None:
        """Create a backfill; Airflow starts its runs in the background."""
        with translated_errors(self.url):
            BackfillApi(self.api).create_backfill(backfill, _request_timeout=TIMEOUT)

    def result(self, dag: str, run_id: str, task: str) -> dict[str, Any] | None:
        """Return the JSON object that a task of a run returned, or None if it has not returned one."""
        try:
            with translated_errors(self.url):
                entry = XComApi(self.api).get_xcom_entry(dag, task, run_id, "return_value", _request_timeout=TIMEOUT)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        value: Any = entry.actual_instance.value if entry.actual_instance else None
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def wait_for(
        self,
        dag: str,
        run_ids: list[str],
        timeout: float,
        on_change: Callable[[DAGRunResponse], None] = lambda run: None,
    ) -> dict[str, DAGRunResponse]:
        """Wait until the runs have ended or ``timeout`` seconds have passed; return each run in its state then.

        ``on_change`` is called with a run whenever its state has changed.
        """
        deadline, states = time.monotonic() + timeout, dict.fromkeys(run_ids, "")
        while True:
            runs = {run_id: self.run(dag, run_id) for run_id in run_ids}
            for run_id, run in runs.items():
                if run.state.value != states[run_id]:
                    on_change(run)
                states[run_id] = run.state.value
            if all(state in FINISHED for state in states.values()) or time.monotonic() > deadline:
                return runs
            time.sleep(2)


def connect(home: Path) -> Airflow:
    """Return a client of the Airflow that ``VPOC_AIRFLOW_URL`` names, else of the one in ``home``.

    Raises:
        NotUpError: nobody answers.
        RefusedError: the user, the password or the token is wrong.
        ConfigError: a URL without a token and without a password.
    """
    url, token = environment.read(environment.AIRFLOW_URL), environment.read(environment.AIRFLOW_TOKEN)
    if url is None:
        return Airflow.of_home(home)
    password = environment.read(environment.AIRFLOW_PASSWORD)
    if not (token or password):
        raise ConfigError(
            f"Expected {environment.AIRFLOW_TOKEN}, or {environment.AIRFLOW_USER} and {environment.AIRFLOW_PASSWORD},"
            f" beside {environment.AIRFLOW_URL} ({url}); found neither. Set one of them."
        )
    user = environment.read(environment.AIRFLOW_USER) or "admin"
    return Airflow(url, environment.read(environment.LAKE), user=user, password=password or "", token=token or "")


def health(url: str) -> HealthInfoResponse | None:
    """Return the health report of the API server at ``url``, or None if there is no such answer within 5 s."""
    try:
        return MonitorApi(ApiClient(Configuration(host=url, retries=RETRY))).get_health(_request_timeout=5.0)
    except (ApiException, HTTPError, ValidationError):
        return None


@contextmanager
def translated_errors(url: str) -> Iterator[None]:
    """Turn the client library's errors into this module's.

    Raises:
        RefusedError: Airflow at ``url`` answered with an error.
        NotUpError: nobody answered, or not in HTTP.
    """
    try:
        yield
    except ApiException as error:
        raise RefusedError(error.status or 0, _reason(error)) from error
    except HTTPError as error:
        remedy = f"Start it with `make up`, or correct {environment.AIRFLOW_URL}."
        raise NotUpError(f"Expected Airflow to answer at {url}; {error}. {remedy}") from error


def _reason(error: ApiException) -> str:
    """Return Airflow's reason for an error: its text, or field and message of each value that it rejects."""
    text = str(error.body or error.reason or "")
    try:
        detail = json.loads(text)["detail"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {error.status}: {text[:500]}"
    if isinstance(detail, list) and all(isinstance(item, dict) for item in detail):
        return "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in detail)
    return str(detail)
