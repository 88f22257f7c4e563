"""``python -m vpoc_ops.mlflow_server PORT``: MLflow's UI on the loopback, for the registry of this environment's lake.

MLflow's own command starts this server as its child and stays beside it, which doubles the memory (0.4 GB); with job
execution eight more processes follow. The server asks for no login: whoever has an account on this machine can use it.
"""

from __future__ import annotations

import os
import sys

from vpoc_ml.artifacts import layout
from vpoc_ml.environment import lake_uri
from vpoc_ml.lake.store import Lake
from vpoc_ml.registry.mlflow_store import connect_client
from vpoc_ml.registry.registry import registry_folder

NICE = 5
"""The UI yields to Airflow's parts, which start at the same time, and to a training."""


def main(port: int) -> None:
    """Become the server.

    Raises:
        ConfigError: the lake is in an object store, and ``VPOC_REGISTRY`` names no folder for its registry.
    """
    database = registry_folder(Lake(lake_uri())) / layout.MLFLOW_DATABASE
    if not database.exists():
        connect_client(f"sqlite:///{database}")  # never half made, which a run at the same time would find
    variables = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port},localhost:{port}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{database}",  # as MLflow's command passes it to its child
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    os.nice(NICE)
    server = ["-m", "uvicorn", "mlflow.server.fastapi_app:app", "--host", "127.0.0.1", "--port", str(port)]
    os.execve(sys.executable, [sys.executable, *server, "--workers", "1"], os.environ | variables)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]))
