"""Fixtures every test may use."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from typer import testing

from vpoc_ml import environment
from vpoc_ml.registry import mlflow_store
from vpoc_ops.airflow_home import airflow_env, apply

# Before anything loads them: tests run side by side, and libraries whose threads wait for each other burn both cores.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

# Typer makes every command anew for each call of a test, which takes a third of a second.
vars(testing)["_get_command"] = functools.cache(vars(testing)["_get_command"])

settings.register_profile("calm", deadline=None)  # a busy machine is no failure
settings.load_profile("calm")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real market data; absent data is a failure where it is required, else a skip."""
    folder = Path(environment.read(environment.REAL_DATA) or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"real market data not found at {folder}; set VPOC_REAL_DATA to its folder"
        if environment.read(environment.REQUIRE_REAL) == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Set the variables of an Airflow of its own: it reads them on import, and any test may import it first."""
    home = Path(tempfile.mkdtemp(prefix="airflow-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    apply(airflow_env(home, home / "lake"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start a whole Airflow: the others would wait for them at the end."""
    items.sort(key=lambda item: not item.path.name.endswith("_e2e.py"))


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Home of the tests' own Airflow, with its database."""
    from airflow.utils.db import initdb

    initdb()
    return Path(os.environ["AIRFLOW_HOME"])


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a new database of MLflow, which ``copied_databases`` makes when it is first needed."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(scope="module", autouse=True)
def copied_databases(mlflow_template: Path) -> Iterator[None]:
    """Copy each new database of MLflow: to make one takes a second, because it goes through MLflow's whole history."""
    make = mlflow_store.connect_client

    def connect_client(tracking_uri: str) -> Any:
        kind, _, name = tracking_uri.partition("sqlite:///")
        if name and not kind and not Path(name).exists():
            make(f"sqlite:///{mlflow_template}")
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(mlflow_template, f"{name}.copy")
            os.replace(f"{name}.copy", name)
        return make(tracking_uri)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_store, "connect_client", connect_client)
        yield


@pytest.fixture
def no_dag_runs(airflow_home: Path) -> None:
    """Airflow's database without runs: the tests of one process share it, and others leave theirs."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(TaskInstance))
        session.execute(delete(DagRun))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a real S3 server process on the loopback; one that does not start is a failure, never a skip."""
    script = Path(__file__).with_name("s3_server.py")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    if not port:
        pytest.fail("the S3 server did not start; install moto[s3] as requirements-dev.txt pins it")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket; the machine's cache is a temporary folder, the environment names the server."""
    import boto3

    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "VPOC_CACHE": str(tmp_path / "cache"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = f"lake-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
