"""A search on Airflow: its form, the checks before any work, and its two tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param

from vpoc_airflow import stage_tasks, start
from vpoc_airflow.schedule import instrument_override
from vpoc_ml import config, pipeline
from vpoc_ml.artifacts.studies import TrialRecord

log = logging.getLogger(__name__)

TRIALS = {"type": "integer", "minimum": 1, "maximum": 10_000}
SEED = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
SETTINGS = tuple(name for name in start.SECTIONS if name not in ("promotion", "scoring", "monitoring"))
"""Sections of the settings that a search reads: nothing is promoted and nothing scored."""
COMMON = (
    "data.contracts",
    "dataset.horizon",
    "model.kind",
    "training.epochs",
    "training.patience",
    "quality.level",
    "machine.device",
)
"""Settings of the form's first section; ``vary`` has those that a search tries."""
FIELDS: start.Fields = {
    "trials": {
        **config.number_field(TRIALS),
        "default": 30,
        "description": "Number of trials, 1 to 10,000; empty means 30. The first trial uses the settings of this form,"
        " if the space contains them.",
    },
    "vary": {
        "type": ["null", "array"],
        "items": {"type": "string"},
        "description": "Settings to vary, one per line: key=low..high, key=low..high log, or key=a|b. Empty: learning"
        " rate, weight decay, batch size, averaging, widths and dropout.",
    },
    "search_seed": {
        **config.number_field(SEED),
        "default": 0,
        "description": "Seed of the suggestions, an integer from 0; empty means 0.",
    },
}


def form_params() -> dict[str, Param]:
    """Return the params of the search's DAG: its own fields, then those of the nightly run up to the training."""
    return start.form_params(FIELDS, SETTINGS, COMMON)


def resolve(params: Mapping[str, Any], dag_run: Any) -> dict[str, Any]:
    """Check conf and space, then start the run as the nightly does, and return its configuration."""
    from vpoc_ml.training.launch.search_space import DEFAULT_SPACE, parse_space

    with stage_tasks.recorded(stage_tasks.current_run(), "resolve_config"):
        params = start.with_conf(params, dag_run.conf, [*form_params(), *config.setting_keys()])
        settings = instrument_override() | start.overrides(params)
        parse_space(arguments(params)[1] or DEFAULT_SPACE, config.resolve(params["preset"], settings))
    return start.begin(params, settings, dag_run.run_after)


def prepare() -> None:
    """Run every stage up to the gate on the training set; what the nightly run has built is not built again."""
    stage_tasks.call(pipeline.run_until, "gate-training-set", datetime.now(UTC))


def search(params: Mapping[str, Any]) -> dict[str, Any]:
    """Search, with one line per trial in the task's log; a retry continues with the trial that was interrupted."""
    return stage_tasks.call(pipeline.search, *arguments(params), on_trial=_log_trial)


def _log_trial(record: TrialRecord) -> None:
    value = record.status if record.value is None else f"rank IC on validation rows {record.value:+.5f}"
    log.info("Trial %s: %s with %s", record.number, value, " ".join(record.overrides) or "the run's own settings")


def arguments(params: Mapping[str, Any]) -> tuple[int, Sequence[str], int]:
    """Return the values of the search's own fields: trials, space (empty: the default one) and seed.

    Raises:
        InvalidValueError: trials or seed is no integer within its limits.
    """
    trials, seed = (
        int(config.number(name, FIELDS[name]["default"] if params[name] is None else params[name], limits))
        for name, limits in (("trials", TRIALS), ("search_seed", SEED))
    )
    return trials, [line for line in params["vary"] or () if line.strip()] or (), seed
