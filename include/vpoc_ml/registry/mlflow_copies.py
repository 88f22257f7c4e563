"""Copies in MLflow: training curves, live or when the model is registered, and the trials of a search.

MLflow only receives a copy. If it fails, training continues and ``progress.jsonl`` is complete. Trials are in a
separate experiment with one run per trial and no model.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.artifacts.studies import TrialRecord
from vpoc_ml.artifacts.training_progress import ProgressRecord, read_progress
from vpoc_ml.registry.mlflow_store import CURVES, MlflowStore, connect_client, create_once

LIVE_AFTER, FLUSH_SECONDS, CLOSE_SECONDS = 20.0, 5.0, 30.0
IDENTITY = {"kind", "step", "epoch", "steps_total", "epochs_total", "rows"}
log = logging.getLogger(__name__)


class Curves:
    """Sends progress lines to MLflow from a thread of its own, so that a slow server does not delay the training.

    A run shorter than ``after`` seconds does not import MLflow. Its curves are logged at registration.

    Args:
        open_store: opens the MLflow store; called in the sending thread.
        run: name of the run.
        after: seconds after the first line before anything is sent.
    """

    def __init__(self, open_store: Callable[[], MlflowStore], run: str, after: float = LIVE_AFTER) -> None:
        self.open_store = open_store
        self.run = run
        self.after = after
        self.lines: deque[ProgressRecord] = deque()
        self.closing = threading.Event()
        self.thread: threading.Thread | None = None
        self.opened: float | None = None

    def __call__(self, line: ProgressRecord) -> None:
        """Queue a progress line. It never blocks and never raises."""
        self.lines.append(line)
        now = time.monotonic()
        self.opened = now if self.opened is None else self.opened
        if self.thread is None and now - self.opened >= self.after:
            self.thread = threading.Thread(target=self._send, name="curves", daemon=True)
            self.thread.start()

    def close(self) -> None:
        """Send the queued lines, for at most 30 seconds."""
        self.closing.set()
        if self.thread is not None:
            self.thread.join(CLOSE_SECONDS)

    def _send(self) -> None:
        try:
            mlflow = self.open_store()
            live = mlflow.open_live(self.run)
            last = False
            while not last:
                last = self.closing.wait(FLUSH_SECONDS)
                mlflow.log_curves(live, points(self._taken()))
            mlflow.close_live(live)
        except Exception as error:  # noqa: BLE001 - no failure of MLflow may end the training
            log.warning("the training curves are not sent to MLflow: %s: %s", type(error).__name__, error)

    def _taken(self) -> Iterator[ProgressRecord]:
        while self.lines:
            yield self.lines.popleft()


def points(records: Iterable[ProgressRecord]) -> list[tuple[str, float, int]]:
    """Return name, value and step of every number in the progress lines. Names start with ``training/``."""
    return [
        (f"{CURVES}{name}", float(value), record.step)
        for record in records
        for name, value in record.to_json().items()
        if name not in IDENTITY and isinstance(value, int | float)
    ]


def stored_points(run_dir: Path) -> list[tuple[str, float, int]]:
    """Return the points of a run's ``progress.jsonl``; none without the file."""
    return points(read_progress(run_dir))


EXPERIMENT = "vpoc-search"
OPEN = ("RUNNING", "SCHEDULED")


def log_trial(tracking_uri: str, run: str, record: TrialRecord) -> None:
    """Log parameters and metrics of a trial. A finished trial in MLflow is left unchanged; an open one is completed.

    A trial stays open if MLflow could not be reached, or the search was killed, before everything was logged.

    Args:
        tracking_uri: address of MLflow.
        run: the run whose settings are searched.
        record: the trial.
    """
    client = connect_client(tracking_uri)
    if client.get_experiment_by_name(EXPERIMENT) is None:
        create_once(lambda: client.create_experiment(EXPERIMENT))
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    tags = {"run": run, "trial": record.trial, "number": str(record.number), "status": record.status}
    wanted = f"tags.run = '{run}' and tags.trial = '{record.trial}' and tags.number = '{record.number}'"
    known = client.search_runs([experiment], wanted)
    if any(each.info.status not in OPEN for each in known):
        return
    made = known[0] if known else client.create_run(experiment, tags=tags, run_name=f"{run} trial {record.number}")
    for key, value in record.params.items():
        client.log_param(made.info.run_id, key, value)
    for name, number in metrics_of(record).items():
        if name not in made.data.metrics:  # MLflow would draw a second point as a curve
            client.log_metric(made.info.run_id, name, number)
    client.set_terminated(made.info.run_id, "FINISHED" if record.value is not None else "FAILED")


def metrics_of(record: TrialRecord) -> dict[str, float]:
    """Return the numbers of a trial by flat names. Missing numbers are left out."""
    metrics = dict(record.metrics) if record.metrics else {}
    values = {name: each.value if isinstance(each, Interval) else each for name, each in metrics.items()}
    numbers = {"value": record.value, **{f"validation_{name}": value for name, value in values.items()}}
    return {name: float(value) for name, value in numbers.items() if value is not None}
