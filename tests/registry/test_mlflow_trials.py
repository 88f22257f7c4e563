"""Trials in MLflow: each once, and whole even if logging broke on the way."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vpoc_ml.artifacts.metrics import ValidationMetrics
from vpoc_ml.artifacts.studies import TrialRecord
from vpoc_ml.registry import mlflow_copies

RECORD = TrialRecord(
    number=3,
    trial="abc",
    params={"model.dropout": 0.1, "training.batch_size": 64},
    status="scored",
    value=0.02,
    metrics=ValidationMetrics(rank_ic=None, direction_accuracy=None, huber=None, net=5.0, sharpe=None),
)


class Client:
    """MLflow's client as far as a trial needs it; raises at the ``broken``-th write."""

    def __init__(self, broken: int | None = None) -> None:
        self.runs, self.writes, self.broken = [], 0, broken

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, experiments, wanted):
        return [each for each in self.runs if all(f"'{each.tags[key]}'" in wanted for key in ("trial", "number"))]

    def create_run(self, experiment, tags, run_name):
        info = SimpleNamespace(run_id=len(self.runs), status="RUNNING")
        data = SimpleNamespace(metrics={}, params={})
        self.runs.append(SimpleNamespace(info=info, data=data, tags=tags, points=[], name=run_name))
        return self.runs[-1]

    def log_param(self, run_id, key, value):
        self._write()
        self.runs[run_id].data.params[key] = value

    def log_metric(self, run_id, name, value):
        self._write()
        self.runs[run_id].data.metrics[name] = value
        self.runs[run_id].points.append(name)

    def set_terminated(self, run_id, status):
        self._write()
        self.runs[run_id].info.status = status

    def _write(self):
        self.writes += 1
        if self.writes == self.broken:
            raise ConnectionError("no route to host")


@pytest.mark.parametrize("broken", [None, 1, 2, 4, 5])
def test_trial_is_logged_once_and_completed_where_logging_broke(broken, monkeypatch):
    client = Client(broken)
    monkeypatch.setattr(mlflow_copies, "connect_client", lambda uri: client)
    if broken:
        with pytest.raises(ConnectionError):
            mlflow_copies.log_trial("uri", "night", RECORD)
    for _ in range(2):
        mlflow_copies.log_trial("uri", "night", RECORD)
    (run,) = client.runs
    assert (run.info.status, run.name) == ("FINISHED", "night trial 3")
    assert run.data.params == RECORD.params
    assert run.data.metrics == {"value": 0.02, "validation_net": 5.0}
    assert sorted(run.points) == ["validation_net", "value"], "a value has one point"


def test_another_trial_is_another_run_and_one_without_value_failed(monkeypatch):
    client = Client()
    monkeypatch.setattr(mlflow_copies, "connect_client", lambda uri: client)
    mlflow_copies.log_trial("uri", "night", RECORD)
    mlflow_copies.log_trial("uri", "night", RECORD.model_copy(update={"number": 4, "value": None, "metrics": None}))
    assert [run.info.status for run in client.runs] == ["FINISHED", "FAILED"]
