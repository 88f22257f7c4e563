"""One Airflow home on this machine: its environment variables, its database and pool.

``python -m vpoc_ops.airflow_home`` prepares the database of this environment.
"""

from __future__ import annotations

import os
from pathlib import Path

from vpoc_ml.environment import DEADLINE_HOURS, LAKE, PROJECT, TRAIN_POOL, lake_uri

UP_HOME = PROJECT / ".airflow" / "up"
"""Default home of ``make up`` and of the commands that talk to it."""
DEMO_HOME = PROJECT / ".airflow" / "demo"
"""Default home of ``make demo``."""
CONNECTION = "AIRFLOW_CONN_"
"""Beginning of the variables that define Airflow's connections."""
PASSWORDS_FILE = "passwords.json"
PARTS_FILE = "parts.json"
"""Files of a home: the password of the administrator, and what runs."""


def airflow_env(home: Path, lake: str | Path | None, *, port: int | None = None) -> dict[str, str]:
    """Return the variables for one Airflow home: SQLite, LocalExecutor, loopback, no examples, no telemetry.

    Args:
        home: Airflow's folder.
        lake: folder or URL; None: the lake of this process's environment.
        port: port of the API server; None: there is none.
    """
    home = home.absolute()
    env = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "vpoc_airflow.local_executor.LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / PASSWORDS_FILE),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",  # 0.1 takes a fifth of a core
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "180",  # 60 costs a living task its try
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",  # 300: a killed scheduler's tasks hang so long
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # a changed one is read at once
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "GX_ANALYTICS_ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        LAKE: lake_uri(lake),
    }
    if port is not None:
        base = f"http://127.0.0.1:{port}"
        env |= {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": base,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
            TRAIN_POOL: "gpu",
        }
    else:
        env[DEADLINE_HOURS] = "0"  # Airflow 3.3: ``dag.test`` fails after a run of a DAG with a deadline
    return env


def merged(env: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with every ``AIRFLOW_*`` variable replaced by those of ``env``.

    Connections (``AIRFLOW_CONN_*``) stay: alerts use them.
    """
    own = ("AIRFLOW_", "_AIRFLOW_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(own) or key.startswith(CONNECTION)}
    return kept | env


def apply(env: dict[str, str]) -> None:
    """Make ``env`` this process's Airflow environment. Call before anything imports airflow."""
    replaced = merged(env)
    os.environ.clear()
    os.environ.update(replaced)


def prepare() -> None:
    """Create or migrate the database of this environment, and the pool of trainings where there is none.

    A new pool admits one training at a time. An existing one keeps the slots that somebody has given it.
    """
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        if Pool.get_pool("gpu", session=session) is None:
            Pool.create_or_update_pool(
                name="gpu", slots=1, description="Trainings at one time", include_deferred=False, session=session
            )


if __name__ == "__main__":
    prepare()
