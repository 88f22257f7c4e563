"""Every file name and key of a lake. Keys are paths below the lake's root, with ``/`` on every system.

``data/`` of a live run is shared by all runs. A run of a past night keeps its shared artifacts below ``nights/``.
Names of the files that training writes come from ``training_files``. Light: DAG files import this module.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

from vpoc_ml.artifacts.training_files import BEST_MODEL as BEST_MODEL
from vpoc_ml.artifacts.training_files import BEST_MODEL_CARD as BEST_MODEL_CARD
from vpoc_ml.artifacts.training_files import CHECKPOINTS as CHECKPOINTS
from vpoc_ml.artifacts.training_files import CONFIG as CONFIG
from vpoc_ml.artifacts.training_files import FEATURE_STATISTICS as FEATURE_STATISTICS
from vpoc_ml.artifacts.training_files import FINAL_MODEL as FINAL_MODEL
from vpoc_ml.artifacts.training_files import PROGRESS as PROGRESS
from vpoc_ml.artifacts.training_files import REFIT_CHOICES as REFIT_CHOICES
from vpoc_ml.artifacts.training_files import SEARCH_RESULT as SEARCH_RESULT
from vpoc_ml.artifacts.training_files import SEARCH_RETURNS as SEARCH_RETURNS
from vpoc_ml.artifacts.training_files import TRAINING_CONFIG as TRAINING_CONFIG
from vpoc_ml.artifacts.training_files import TRAINING_LOG as TRAINING_LOG
from vpoc_ml.artifacts.training_files import TRAINING_RESULT as TRAINING_RESULT
from vpoc_ml.artifacts.training_files import TRAINING_SET as TRAINING_SET
from vpoc_ml.artifacts.training_files import TRIALS as TRIALS
from vpoc_ml.artifacts.training_files import VALIDATION_RETURNS as VALIDATION_RETURNS

LONGEST_RUN_NAME = 200  # characters of a folder's name before its hash; file systems allow 255 bytes
_HASHED = re.compile(r"--[0-9a-f]{8}$")

RAW = "raw"
PLUGINS = "plugins.py"
"""Own features, checks, learners and readers of this lake."""
RUNS = "runs"
REPORTS = "reports"
REGISTRY = "registry"

INPUTS = "inputs.json"
OWN_FEATURES = "own_features.json"
STAGES = "stages"
FAILURES = "failures"
"""Both are folders in a run's folder: the records that its stages leave, and those of failed tasks."""
METRICS = "metrics.json"
LINEAGE = "lineage.json"
LABELLED_SESSIONS = "sessions.json"
FOLDS = "folds.json"
TRACK_RECORD = "track_record.json"
TRACK_RECORD_PREDICTIONS = "track_record_predictions.parquet"
SESSION_SCORES = "session_scores.parquet"
"""How far the candidate is ahead of each rival, session by session; written by the evaluation."""
REFIT = "refit"
"""Folder in a run's folder where the shipped model is trained on all sessions."""
DECISION = "decision.json"
REPORT = "report.html"
SUMMARY = "summary.json"
GATES_PAGE = "gates.html"
MONITORING_REFERENCE = "monitoring_reference.json"
"""What the training rows of a model looked like; beside the model."""
FEATURE_ANALYSIS = "feature-analysis.json"
FEATURE_ANALYSIS_PAGE = "feature-analysis.html"
HISTORY = "history.parquet"
PROFILES = "profiles.parquet"
FAILING_ROWS = "failing_rows.parquet"
FAILING_BARS = "failing_bars.parquet"
DISTRIBUTIONS = "distributions.parquet"
"""All are folders of the reports: the results of all gates, the column profiles, the rows in which checks failed, the
bars around them, and the distributions of features by split."""
MODEL_FILES = (
    f"{BEST_MODEL}.safetensors",
    BEST_MODEL_CARD,
    f"{FINAL_MODEL}.safetensors",
    f"{FINAL_MODEL}.json",
    TRAINING_CONFIG,
    TRAINING_RESULT,
    TRAINING_LOG,
    PROGRESS,
    MONITORING_REFERENCE,
)
"""Files of a run's folder that training writes and a run with the same training fingerprint takes over."""

VIX = "vix/VIX.parquet"
LEDGER = "ledger.jsonl"
LIVE = "live"
MLFLOW_DATABASE = "mlflow.db"
"""In the registry's folder: the ledger, the folder of the live records, and the database of MLflow on this machine."""
NIGHTS = "index/nights.jsonl"
"""One line for each run, ``artifacts.night``. It is made again from the runs' folders where it is missing."""
LEAKAGE_PROOF = "leakage/proof.json"
DATA_DOCS_PAGE = f"{REPORTS}/data_docs/index.html"
ALERTS = "alerts.jsonl"

BARS = "bars"
QUARANTINE = "quarantine"
SESSIONS = "sessions"
DEVELOPING = "developing"
FEATURES = "features"
PREDICTIONS = "predictions"
CONTRACT_KINDS = (BARS, QUARANTINE, SESSIONS, DEVELOPING, FEATURES)
"""Artifacts that exist once per contract."""


def run_name(text: str) -> str:
    """Return ``text`` as the name of a run and its folder: anything but letters, digits and ``_.-`` becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).lstrip(".") or "run"


def dag_run_name(dag_id: str, run_id: str) -> str:
    """Return the name, and folder, of the run that Airflow calls ``run_id`` in the DAG ``dag_id``.

    ``vpoc_nightly--may`` for the id ``may``. An id that cannot be a folder's name as it is, such as
    ``scheduled__2026-05-14T22:30:00+00:00``, gets a hash at its end, so that two ids never share a folder.
    """
    text = f"{dag_id}--{run_id}"
    name = run_name(text)
    if name == text and len(name) <= LONGEST_RUN_NAME and not _HASHED.search(name):
        return name
    return hashed_name(name, text)


def hashed_name(name: str, text: str) -> str:
    """Return ``name``, cut to a folder's length, with a hash of ``text``: the name of nothing but ``text``."""
    return f"{name[:LONGEST_RUN_NAME]}--{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def contract_folder(kind: str, symbol: str) -> str:
    """Return the folder of one kind of contract artifact, such as ``bars/ES``."""
    return f"{kind}/{symbol}"


def contract_key(kind: str, symbol: str, contract: str) -> str:
    """Return the key of a contract's artifact, such as ``bars/ES/ESH25.parquet``."""
    return f"{contract_folder(kind, symbol)}/{contract}.parquet"


def roll_key(symbol: str) -> str:
    """Return the key of an instrument's roll table, such as ``roll/ES.parquet``."""
    return f"roll/{symbol}.parquet"


def index_key(column: str) -> str:
    """Return the key of a further index's values by its column among the bars."""
    return f"indices/{column}.parquet"


def night_folder(as_of: datetime) -> str:
    """Return the folder of the artifacts that runs of one past night share; ``as_of`` is UTC."""
    return f"nights/{as_of:%Y-%m-%dT%H%M%SZ}"


def run_folder(run: str) -> str:
    """Return the folder of a run's own artifacts."""
    return f"{RUNS}/{run}"


def run_file(run: str, name: str) -> str:
    """Return the key of a file in a run's folder."""
    return f"{run_folder(run)}/{name}"


def stages_folder(run: str) -> str:
    """Return the folder of the records that a run's stages leave."""
    return run_file(run, STAGES)


def stage_key(run: str, stage: str, contract: str | None = None) -> str:
    """Return the key of a stage's record, such as ``runs/night/stages/ingest.ESH25.json``."""
    return f"{stages_folder(run)}/{stage}.{contract}.json" if contract else f"{stages_folder(run)}/{stage}.json"


def failures_folder(run: str) -> str:
    """Return the folder of the records of failed tasks."""
    return run_file(run, FAILURES)


def failure_key(run: str, stage: str, label: str = "") -> str:
    """Return the key of the record of a failed task; ``label`` is the contract or fold of a mapped task."""
    return f"{failures_folder(run)}/{stage}.{label}.json" if label else f"{failures_folder(run)}/{stage}.json"


def trained_key(fingerprint: str) -> str:
    """Return the key of the pointer from a training fingerprint to the run that trained it."""
    return f"trained/{fingerprint}.json"


def fold_folder(run: str, fold: str) -> str:
    """Return the folder in which a run trains a fold, until the fold is complete."""
    return run_file(run, f"folds/{fold}")


def track_folder(symbol: str, key: str) -> str:
    """Return the folder of a complete fold, which all runs share."""
    return f"track/{symbol}/{key}"


def fold_model_key(symbol: str, key: str) -> str:
    """Return the key of the record of a complete fold's model."""
    return f"{track_folder(symbol, key)}/fold.json"


def fold_predictions_key(symbol: str, key: str) -> str:
    """Return the key of a fold's predictions."""
    return f"{track_folder(symbol, key)}/predictions.parquet"


def predictions_key(model_key: str, version: int, contract: str) -> str:
    """Return the key of a model version's scores of a contract."""
    return f"{PREDICTIONS}/{model_key}/v{version}/{contract}.parquet"


def run_reports(run: str) -> str:
    """Return the folder of a run's reports, relative to the folder of all reports."""
    return f"runs/{run}"


def gates_page(run: str) -> str:
    """Return the key of the page with a run's gates."""
    return f"{REPORTS}/{run_reports(run)}/{GATES_PAGE}"


def gate_table(table: str, gate: str, run: str) -> str:
    """Return the file of a gate and run in ``HISTORY`` or another table of the gates, relative to all reports."""
    return f"{table}/{gate}__{run}.parquet"
