"""The one place that knows which environment variables make an Airflow of this project.

Standard library only: plugins import it in every Airflow component.
"""

from __future__ import annotations

import os
from pathlib import Path

from vpoc_ml import environment

PROJECT = Path(__file__).resolve().parents[2]


def lake_uri(lake: str | Path | None = None) -> str:
    """Return where the lake is: ``lake``, else ``VPOC_LAKE``, else ``data`` in the project.

    A URL such as ``s3://bucket/es`` stays as it is; a folder becomes absolute.
    """
    named = str(lake or environment.read(environment.LAKE) or PROJECT / "data")
    return named if "://" in named else str(Path(named).expanduser().absolute())


def lake_root() -> Path:
    """Return the folder of a local lake."""
    return Path(lake_uri())


def airflow_env(home: Path, lake: str | Path, *, port: int | None = None) -> dict[str, str]:
    """Return the variables for one Airflow home: SQLite, LocalExecutor, loopback, no examples, no telemetry.

    Variables that are set already and configure Airflow are not looked at: the caller's whole ``AIRFLOW__*``
    environment is replaced by ``apply`` so that two homes never mix. ``port`` adds the API server's address.
    """
    home = home.absolute()
    env = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "GX_ANALYTICS_ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        environment.LAKE: lake_uri(lake),
    }
    if port is not None:
        base = f"http://127.0.0.1:{port}"
        env |= {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": base,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
            environment.TRAIN_POOL: "gpu",
        }
    return env


def merged(env: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with every ``AIRFLOW_*`` variable replaced by those of ``env``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    return kept | env


def apply(env: dict[str, str]) -> None:
    """Make ``env`` this process's Airflow environment. Call before anything imports airflow."""
    whole = merged(env)
    os.environ.clear()
    os.environ.update(whole)
