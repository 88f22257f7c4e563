"""Trials of a search in MLflow: a separate experiment with one run per trial and no model."""

from __future__ import annotations

from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.artifacts.trial_record import TrialRecord
from vpoc_ml.registry.mlflow_store import connect_client

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
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
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
