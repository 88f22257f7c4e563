"""MLflow with a login, as a cluster runs it: who reads and who writes, passwords, a database of an earlier MLflow."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import httpx
import pytest

from vpoc_ml.errors import RegistryRefusedError
from vpoc_ml.registry.mlflow_store import EXPERIMENT, MODEL, MlflowStore
from vpoc_ops import cluster_mlflow
from vpoc_ops.cluster_env import MLFLOW_TASKS, PASSWORDS, USERS, settings

pytestmark = pytest.mark.slow
API = "/api/2.0/mlflow"
CREATE = {"registered-models/create": {"name": MODEL}, "experiments/create": {"name": EXPERIMENT}}


def older_database(path) -> tuple[str, str]:
    """Make MLflow's database as it was before its last migration; return that revision and the newest one."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    newest = ScriptDirectory.from_config(config).get_revision("head")
    command.upgrade(config, newest.down_revision)
    engine.dispose()
    return newest.down_revision, newest.revision


def revision(path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]


class Server:
    """A running server.

    Attributes:
        url: its address.
        logins: user and password of everybody.
        revisions: of its database: before, the newest one, and now.
    """

    def __init__(self, folder) -> None:
        database = folder / "mlflow.db"
        before, newest = older_database(database)
        values = {name: value for name, value in settings({}).items() if name in PASSWORDS}
        self.logins = {name: (name, values[f"{name.upper()}_PASSWORD"]) for name in USERS}
        self.logins |= {MLFLOW_TASKS: (MLFLOW_TASKS, values["MLFLOW_PASSWORD"]), "stranger": ("stranger", "x" * 20)}
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "vpoc_ops.cluster_mlflow", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
        variables = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=os.environ | variables | values, stdout=log, stderr=log)
        self.wait()
        self.revisions = (before, newest, revision(database))

    def wait(self) -> None:
        deadline = time.monotonic() + 180
        while True:
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Expected the server to answer; its log: {self.log.read_text()[-4000:]}")
            time.sleep(0.2)

    def status(self, user: str, method: str, path: str, body: object = None) -> int:
        login = self.logins.get(user)
        return httpx.request(method, self.url + path, auth=login, json=body, timeout=60).status_code

    def store(self, monkeypatch, user: str) -> MlflowStore:
        name, password = self.logins[user]
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        return MlflowStore(self.url)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server, with one registered version."""
    running = Server(tmp_path_factory.mktemp("mlflow"))
    weights = running.log.with_name("weights.bin")
    weights.write_bytes(b"weights")
    for path, body in CREATE.items():  # a reader was faster than the first task
        assert running.status("viewer", "POST", f"{API}/{path}", body) == 400, path
    tags = {"run": "night", "weights": "w", "fingerprint": "f"}
    with pytest.MonkeyPatch.context() as patch:
        store = running.store(patch, MLFLOW_TASKS)
        store.check()
        assert store.register("night", [weights], metrics={"loss": 0.5}, params={"epochs": "3"}, tags=tags) == 1
    yield running
    running.process.terminate()
    running.process.wait(60)


def artifact(server: Server, monkeypatch) -> str:
    source = server.store(monkeypatch, MLFLOW_TASKS).get(1).source
    return f"/api/2.0/mlflow-artifacts/artifacts/{source.partition('mlflow-artifacts:/')[2]}/weights.bin"


def reads(server: Server, monkeypatch) -> list[str]:
    return [
        "/",
        f"{API}/registered-models/get?name={MODEL}",
        f"{API}/model-versions/search",
        artifact(server, monkeypatch),
    ]


@pytest.mark.parametrize("user", ["", "stranger"])
def test_nobody_reads_without_a_login(server, monkeypatch, user):
    for path in reads(server, monkeypatch):
        assert server.status(user, "GET", path) == 401, path


def test_files_are_behind_the_server(server, monkeypatch):
    assert server.store(monkeypatch, MLFLOW_TASKS).get(1).source.startswith("mlflow-artifacts:/1/")
    assert [path.read_bytes() for path in server.log.parent.glob("artifacts/1/*/artifacts/model/*")] == [b"weights"]


def changes(server: Server, monkeypatch) -> list[tuple[str, str, object]]:
    return [
        ("POST", f"{API}/registered-models/alias", {"name": MODEL, "alias": "champion-ES", "version": "1"}),
        ("POST", f"{API}/registered-models/set-tag", {"name": MODEL, "key": "ledger_head", "value": "{}"}),
        ("DELETE", f"{API}/model-versions/delete", {"name": MODEL, "version": "1"}),
        ("PUT", artifact(server, monkeypatch), "other weights"),
        ("POST", f"{API}/experiments/delete", {"experiment_id": "1"}),
        ("POST", f"{API}/users/create", {"username": "new", "password": "x" * 20}),
    ]


@pytest.mark.parametrize("user", ["viewer", "reviewer", "operator"])
def test_people_read_and_change_nothing(server, monkeypatch, user):
    for path in reads(server, monkeypatch):
        assert server.status(user, "GET", path) == 200, path
    for method, path, body in changes(server, monkeypatch):
        assert server.status(user, method, path, body) == 403, path
    assert httpx.get(server.url + artifact(server, monkeypatch), auth=server.logins[user]).content == b"weights"


def test_the_admin_changes_what_is_there(server):
    body = {"name": MODEL, "key": "note", "value": "by hand"}
    assert server.status("admin", "POST", f"{API}/registered-models/set-tag", body) == 200


def test_a_task_with_a_wrong_password_learns_what_to_set(server, monkeypatch):
    with pytest.raises(RegistryRefusedError, match="MLFLOW_TRACKING_USERNAME"):
        server.store(monkeypatch, "stranger").check()


def test_a_database_of_an_earlier_mlflow_is_migrated(server):
    before, newest, now = server.revisions
    assert before != newest == now


def test_a_changed_password_is_valid_after_a_restart(tmp_path):
    database = f"sqlite:///{tmp_path}/mlflow.db"
    for password in ("first password", "second password"):
        store = cluster_mlflow.user_store(database)
        cluster_mlflow.set_users(store, {"admin": password, "viewer": f"{password} too"})
    assert store.authenticate_user("viewer", "second password too")
    assert not store.authenticate_user("viewer", "first password too")
    assert {user.username: user.is_admin for user in store.list_users()} == {"admin": True, "viewer": False}


def test_a_missing_password_is_an_error():
    with pytest.raises(KeyError, match="VIEWER_PASSWORD"):
        cluster_mlflow.passwords({"ADMIN_PASSWORD": "a", "OPERATOR_PASSWORD": "b", "REVIEWER_PASSWORD": "c"})


def test_a_percent_sign_in_the_address_of_the_database_is_kept():
    import configparser

    parser = configparser.ConfigParser()
    parser.read_string(cluster_mlflow.auth_settings("postgresql://u:p%40w@host/db"))
    assert parser["mlflow"]["database_uri"] == "postgresql://u:p%40w@host/db"
