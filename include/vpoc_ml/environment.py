"""Every environment variable this project reads, and the lake that they name.

Standard library only: DAG files and plugins import it.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""Folder of the project: its DAGs, its plugins and, by default, its lake ``data``."""

LAKE = "VPOC_LAKE"
"""The lake: a folder or a URL such as ``s3://bucket/es``."""
INSTRUMENT = "VPOC_INSTRUMENT"
"""Root symbol of the instrument that the DAGs work on; default ES."""
INSTRUMENTS = "VPOC_INSTRUMENTS"
"""TOML file with instruments and calendars of your own."""
LAKE_PLUGINS = "VPOC_LAKE_PLUGINS"
"""``1``: run ``plugins.py`` of a lake in an object store; ``0``: run that of no lake. Default: that of a local lake."""
REGISTRY = "VPOC_REGISTRY"
"""Folder of the ledger and of the models' copies; default ``registry/`` of the lake."""
MLFLOW_URL = "VPOC_MLFLOW_URL"
"""Address of MLflow's UI that the pages link to; ``make up`` sets it to that of its own server. Default: no links."""
CACHE = "VPOC_CACHE"
"""Folder of this machine's copies of an object store and of its runs' folders; default ``~/.cache/vpoc_ml``."""
CACHE_GB = "VPOC_CACHE_GB"
"""Size limit of these copies in GiB; default 20. What was used within a day stays."""
LOCKS = "VPOC_LOCKS"
"""Folder of lock files, for object stores without conditional writes."""
LEASE_SECONDS = "VPOC_LEASE_SECONDS"
"""Seconds without renewal after which another writer may take over a lease in an object store; default 60."""
TRAIN_POOL = "VPOC_TRAIN_POOL"
"""Airflow pool of the training tasks; default ``default_pool``."""
TRAIN_EXECUTOR = "VPOC_TRAIN_EXECUTOR"
"""Airflow executor of the training tasks; default: Airflow's first one."""
TRAIN_RETRIES = "VPOC_TRAIN_RETRIES"
"""Retries of a task that trains or searches; default 30. Each resumes from the last checkpoint."""
TRAIN_RETRY_SECONDS = "VPOC_TRAIN_RETRY_SECONDS"
"""Seconds before such a retry, the same before each; default 15."""
TASK_TIMEOUT_HOURS = "VPOC_TASK_TIMEOUT_HOURS"
"""Hours after which Airflow stops a task that trains nothing; default 6."""
TRAIN_TIMEOUT_HOURS = "VPOC_TRAIN_TIMEOUT_HOURS"
"""Hours after which Airflow stops a task that trains or searches; default 24."""
RUN_TIMEOUT_HOURS = "VPOC_RUN_TIMEOUT_HOURS"
"""Hours after which Airflow fails a run that has not ended; default 72."""
DEADLINE_HOURS = "VPOC_DEADLINE_HOURS"
"""Hours after its start by which the nightly run should have ended; default 12, 0: no deadline."""
KEEP_NIGHTS = "VPOC_KEEP_NIGHTS"
"""Newest nights whose runs keep their training sets and folds, at least 7; default: all nights."""
ALERT_SMTP = "VPOC_ALERT_SMTP"
"""Airflow connection of the mail server that sends alerts; default: no e-mail."""
ALERT_MAIL_TO = "VPOC_ALERT_MAIL_TO"
"""Addresses that get alerts by e-mail, separated by commas."""
ALERT_SLACK = "VPOC_ALERT_SLACK"
"""Airflow connection of a webhook that takes Slack's messages; default: none."""
ALERT_WEBHOOK = "VPOC_ALERT_WEBHOOK"
"""Airflow connection of a webhook that takes an alert as JSON; default: none."""
ALERT_REMINDER_HOURS = "VPOC_ALERT_REMINDER_HOURS"
"""Hours after which an alert of the same cause is sent again; default 72, 0: never."""
ALERT_REFUSED_NIGHTS = "VPOC_ALERT_REFUSED_NIGHTS"
"""Nights in a row with a refused candidate that raise an alert, and again after as many; default 10, 0: never."""
ALERT_STALE_SESSIONS = "VPOC_ALERT_STALE_SESSIONS"
"""Sessions missing after the newest bar that raise an alert; default 1, 0: never."""
ALERT_MUTE = "VPOC_ALERT_MUTE"
"""Kinds of alerts that are recorded and not sent, separated by commas; default: none."""
AIRFLOW_URL = "VPOC_AIRFLOW_URL"
"""Address of the Airflow for ``make backfill``, ``contract`` and ``airflow``; default: the one of ``make up``."""
AIRFLOW_TOKEN = "VPOC_AIRFLOW_TOKEN"  # noqa: S105 - a name
"""Token for it, or:"""
AIRFLOW_USER = "VPOC_AIRFLOW_USER"
"""User who logs in there; default admin."""
AIRFLOW_PASSWORD = "VPOC_AIRFLOW_PASSWORD"  # noqa: S105 - a name
"""Password of that user."""
SUPERVISED_HOME = "VPOC_SUPERVISED_HOME"
"""Set by ``make up`` in every process that it starts: the Airflow home. Not to be set by hand."""
TRAINING_PARENT = "VPOC_TRAINING_PARENT"
"""Set in a training process: the id of the process that started it. Not to be set by hand."""
TRAINING_LAKE = "VPOC_TRAINING_LAKE"
"""Set in a training process: the lake whose plugins it loads. Not to be set by hand."""
TRAINING_PLUGINS = "VPOC_TRAINING_PLUGINS"
"""Set in a training process: names and digests of the plugins that it must find. Not to be set by hand."""
REAL_DATA = "VPOC_REAL_DATA"
"""Tests: folder of the real market data."""
REQUIRE_REAL = "VPOC_REQUIRE_REAL"
"""Tests: ``1`` makes absent real data a failure instead of a skip."""
KILLS = "VPOC_KILLS"
"""Tests: how many times a run is killed."""
KILL_SEED = "VPOC_KILL_SEED"
"""Tests: seed of the kill times."""

FORMER_NAMES = {
    LAKE: "VPOC_ML_LAKE",
    INSTRUMENTS: "VPOC_ML_INSTRUMENTS",
    REGISTRY: "VPOC_ML_REGISTRY",
    CACHE: "VPOC_ML_CACHE",
    CACHE_GB: "VPOC_ML_CACHE_GB",
    LOCKS: "VPOC_ML_LOCKS",
    LEASE_SECONDS: "VPOC_ML_LEASE_SECONDS",
    TRAIN_EXECUTOR: "TRAIN_EXECUTOR",
    REAL_DATA: "VPOC_ML_REAL_DATA",
    REQUIRE_REAL: "VPOC_ML_REQUIRE_REAL",
    KILLS: "VPOC_ML_KILLS",
    KILL_SEED: "VPOC_ML_KILL_SEED",
}
"""Names of the earlier release. They work for one more release, with a warning."""


def read(name: str) -> str | None:
    """Return the value of the variable ``name``, or of its former name with a warning; empty counts as unset."""
    if value := os.environ.get(name):
        return value
    former = FORMER_NAMES.get(name)
    value = os.environ.get(former) if former else None
    if not value:
        return None
    warnings.warn(
        f"The environment variable {former} is now called {name}. Rename it: the next release ignores {former}.",
        FutureWarning,
        stacklevel=2,
    )
    return value


def accept_former_names() -> None:
    """Set each variable that is given by its former name only; for command lines whose options name a variable."""
    for name in FORMER_NAMES:
        if value := read(name):
            os.environ[name] = value


def lake_uri(lake: str | Path | None = None) -> str:
    """Return where the lake is: ``lake``, else ``VPOC_LAKE``, else ``data`` in the project.

    A URL such as ``s3://bucket/es`` stays as it is; a folder becomes absolute.
    """
    named = str(lake or read(LAKE) or PROJECT / "data")
    return named if "://" in named else str(Path(named).expanduser().absolute())


def lake_root() -> Path:
    """Return the folder of a local lake."""
    return Path(lake_uri())
