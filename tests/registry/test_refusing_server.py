"""An MLflow that refuses is found before the training, by name and with a remedy; one that fails is another matter."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.exceptions import MlflowException

from vpoc_ml.errors import MachineError, RegistryRefusedError, error_from_record
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.champion_stages import check_registry
from vpoc_ml.pipeline.doctor import check_services

HOST = "Invalid Host header - possible DNS rebinding attack detected"
DENIED = {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}
EXPERIMENT = {"experiment": {"experiment_id": "1", "name": "vpoc", "lifecycle_stage": "active"}}
MODELS = {"registered_models": [{"name": "vpoc"}]}


class Server(ThreadingHTTPServer):
    """Answers every request with ``status`` and ``body``, requests whose path ends as in ``own`` with those."""

    status, body, own = 200, "{}", {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        requested = self.path.partition("?")[0]
        default = self.server.status, self.server.body
        status, body = next((own for path, own in self.server.own.items() if requested.endswith(path)), default)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on the loopback that MLFLOW_TRACKING_URI names, with a password in the URL."""
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://somebody:secret@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield server
    server.shutdown()
    server.server_close()


READ_ONLY = {
    "experiments/get-by-name": (200, json.dumps(EXPERIMENT)),
    "registered-models/search": (200, json.dumps(MODELS)),
    "registered-models/set-tag": (403, json.dumps(DENIED)),
}

JUST_MADE = (400, json.dumps({"error_code": "RESOURCE_ALREADY_EXISTS", "message": "already exists"}))
ABSENT = (404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}))


def test_what_another_task_has_just_created_is_no_refusal(server, tmp_path):
    """The first runs on a new server ask for experiment and model at the same time, find neither, and create both."""
    server.own = {
        "experiments/get-by-name": ABSENT,
        "experiments/create": JUST_MADE,
        "registered-models/search": (200, "{}"),
        "registered-models/create": JUST_MADE,
    }
    check_registry(Lake(tmp_path))
    server.own["registered-models/create"] = (400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE"}))
    with pytest.raises(RegistryRefusedError):
        check_registry(Lake(tmp_path))


@pytest.mark.parametrize(
    ("status", "body", "own", "remedy"),
    [
        (403, HOST, {}, "MLFLOW_SERVER_ALLOWED_HOSTS"),
        (401, "Unauthorized", {}, "MLFLOW_TRACKING_USERNAME"),
        (404, "Not Found", {}, "MLFLOW_TRACKING_URI"),
        (200, "<html>another server</html>", {}, "MLFLOW_TRACKING_URI"),
        (200, "{}", READ_ONLY, "who may write"),
    ],
    ids=["host name", "no login", "wrong path", "another server", "read only"],
)
def test_a_refusal_names_the_remedy_and_is_no_fault_of_the_machine(server, tmp_path, status, body, own, remedy):
    server.status, server.body, server.own = status, body, own
    with pytest.raises(RegistryRefusedError) as raised:
        check_registry(Lake(tmp_path))
    assert remedy in str(raised.value)
    assert "secret" not in str(raised.value)
    assert not isinstance(raised.value, MachineError), "such errors are retried"
    assert str(error_from_record(raised.value.to_record())) == str(raised.value)
    service, registry = check_services({"MLFLOW_TRACKING_URI": server.url})
    assert service.level == "ok", "the port is open"
    assert registry.level == "problem"
    assert remedy in registry.remedy


def test_a_server_that_fails_is_tried_again(server, tmp_path):
    server.status = 503
    with pytest.raises(MlflowException):
        check_registry(Lake(tmp_path))
    assert [each.level for each in check_services({"MLFLOW_TRACKING_URI": server.url})] == ["ok", "problem"]


def test_a_server_that_takes_requests_passes(server, tmp_path):
    server.own = READ_ONLY | {"registered-models/set-tag": (200, "{}")}
    check_registry(Lake(tmp_path))
    *_, registry = check_services({"MLFLOW_TRACKING_URI": server.url})
    assert (registry.subject, registry.level) == ("registry", "ok")
