"""``python -m vpoc_ops.cluster_mlflow``: MLflow's server of a cluster, with a login.

It takes the arguments of ``mlflow server``. Its users are those of Airflow, with the same passwords: everybody reads,
only ``admin`` and the tasks change the experiment and the model of this project. MLflow lets everybody add others. The
users are in MLflow's own database. A password that changed in ``.env`` is valid after a restart.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vpoc_ml.registry.mlflow_store import EXPERIMENT, MODEL
from vpoc_ops.cluster_env import MLFLOW_TASKS, USERS

ADMINS = ("admin", MLFLOW_TASKS)
ARTIFACTS = "mlflow-artifacts:/"
"""Where experiments put their files: behind the server, which serves them."""
CACHE_SECONDS = 60
"""How long a verified password counts. Without it each request pays for a slow hash, 50 ms of CPU."""


def main(arguments: list[str]) -> None:
    """Migrate the database, create or update the users, then serve until SIGTERM.

    Raises:
        KeyError: a variable of the environment is missing: ``MLFLOW_BACKEND_STORE_URI`` or a password.
        MlflowException: a password has fewer than 12 characters.
    """
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "auth.ini"
        settings.touch(mode=0o600)
        settings.write_text(auth_settings(database))
        os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(settings)
        # Signs the form for new users only, which only an admin may send: a new key at each start loses nothing.
        os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex(32)
        from mlflow.cli import cli

        # A server refuses a database of an earlier MLflow.
        cli(["db", "upgrade", database], standalone_mode=False)
        create_records(database)
        set_users(user_store(database), passwords(os.environ))
        cli(["server", "--app-name", "basic-auth", "--workers", "1", *arguments])


def create_records(database: str) -> None:
    """Create the experiment and the model of this project, unless they exist.

    MLflow lets the creator of a record change it. These are created here, so that no user is their creator.
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Experiments

    experiments, models = Experiments(database, ARTIFACTS), Models(database)
    if experiments.get_experiment_by_name(EXPERIMENT) is None:
        experiments.create_experiment(EXPERIMENT)
    if not models.search_registered_models(f"name='{MODEL}'"):
        models.create_registered_model(MODEL)


def auth_settings(database: str) -> str:
    """Return MLflow's settings of the login, with the users in ``database``, a URL of SQLAlchemy."""
    return (
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = {database.replace('%', '%%')}\n"
        f"admin_username = {ADMINS[0]}\n"
        f"auth_cache_ttl_seconds = {CACHE_SECONDS}\n"
    )


def passwords(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the password of each user.

    Raises:
        KeyError: a variable is missing.
    """
    return {name: environment[f"{name.upper()}_PASSWORD"] for name in USERS} | {
        MLFLOW_TASKS: environment["MLFLOW_PASSWORD"]
    }


def user_store(database: str) -> Any:
    """Return MLflow's store of users in ``database``; its tables are created or migrated."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database)
    return store


def set_users(store: Any, passwords: Mapping[str, str]) -> None:
    """Create each user, or give the existing one its password and its rights."""
    for name, password in passwords.items():
        change = store.update_user if store.has_user(name) else store.create_user
        change(name, password, is_admin=name in ADMINS)


if __name__ == "__main__":
    main(sys.argv[1:])
