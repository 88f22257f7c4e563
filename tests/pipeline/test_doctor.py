"""The doctor on machines that do not exist: what is a problem, what is not, and no secret in sight."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from vpoc_ml.cli import app
from vpoc_ml.config import MachineConfig
from vpoc_ml.pipeline.doctor import as_json, check_memory, examine, reachable, stops
from vpoc_ml.training.hardware.device import Smoke
from vpoc_ml.training.hardware.probe import AMD, GIB, DrmGpu, Gpu, Hardware

GPU = Gpu(0, "AMD Radeon RX 7900 XT", "gfx1100", 20 * GIB, 19 * GIB)
RADEON = Hardware(
    torch="2.13.0+rocm7.2",
    hip="7.2",
    archs=("gfx1100",),
    blas="hipblas",
    gpus=(GPU,),
    drm=(DrmGpu("card0", AMD, 0, 20 * GIB),),
    access={"/dev/kfd": True, "/dev/dri/renderD128": True},
)
BARE = Hardware(torch="2.13.0+cpu", error="torch 2.13.0+cpu sees no GPU")


def passing(device, probe):
    return Smoke(str(device), 1, 0.0, 0.0, 0.0, 0.0, None)


@pytest.fixture
def doctor(tmp_path):
    """Examine a machine with a writable lake; returns the findings by subject."""

    def run(hardware=BARE, config=None, environment=None, connect=lambda host, port: None, lake=None):
        diagnostics = examine(
            str(lake or tmp_path / "lake"),
            config or MachineConfig(),
            hardware=hardware,
            environment=environment or {},
            connect=connect,
            smoke=passing,
        )
        run.diagnostics = diagnostics
        return {diagnostic.subject: diagnostic for diagnostic in diagnostics}

    return run


def test_healthy_rocm_worker_is_reported_part_by_part(doctor):
    found = doctor(RADEON)
    assert not stops(doctor.diagnostics)
    assert found["ROCm"].found.startswith("HIP 7.2")
    assert found["GPU 0"].found == "AMD Radeon RX 7900 XT, gfx1100, 19.0 of 20.0 GiB free, hipblas"
    assert "cuda:0" in found["device"].found
    assert {"Python", "torch", "lake", "disk", "memory"} <= set(found)
    assert as_json(doctor.diagnostics)["ok"] is True
    json.dumps(as_json(doctor.diagnostics), allow_nan=False)


def test_machine_without_a_gpu_trains_on_the_cpu_unless_that_is_forbidden(doctor):
    assert doctor()["device"].level == "ok"
    assert not stops(doctor.diagnostics)
    forbidden = doctor(config=MachineConfig(allow_cpu=False))
    assert forbidden["device"].level == "problem"
    assert "sees no GPU" in forbidden["device"].found
    assert stops(doctor.diagnostics)


def test_known_issue_of_the_gpu_stops_only_who_needs_the_gpu(doctor):
    closed = replace(RADEON, gpus=(), access={"/dev/kfd": False, "/dev/dri/renderD128": True}, error="no GPU")
    spared = doctor(closed)
    assert spared["device nodes"].level == "warning"
    assert spared["device"].level == "warning", "the GPU is there and is not used: that is worth a look"
    assert not stops(doctor.diagnostics)
    needed = doctor(closed, MachineConfig(device="rocm"))
    assert (needed["device nodes"].level, needed["device"].level) == ("problem", "problem")
    assert "usermod -aG render,video" in needed["device nodes"].remedy


def test_other_python_is_a_problem(doctor):
    found = doctor(replace(BARE, python=(3, 12)))["Python"]
    assert (found.level, found.found) == ("problem", "3.12; the requirements are locked for 3.11")


def test_lake_that_cannot_be_written_is_a_problem_and_a_good_one_is_left_clean(doctor, tmp_path):
    (tmp_path / "file").touch()
    found = doctor(lake=tmp_path / "file")
    assert found["lake"].level == "problem"
    assert "VPOC_LAKE" in found["lake"].remedy
    assert doctor()["lake"].level == "ok"
    assert [path for path in (tmp_path / "lake").rglob("*") if path.is_file()] == []


def test_lake_in_an_object_store_is_tried_too(doctor, bucket):
    found = doctor(lake=bucket)
    assert found["lake"].level == "ok"
    assert "disk" not in found


def test_full_disk_is_named(doctor, monkeypatch):
    from types import SimpleNamespace

    for free, level in ((0.5, "problem"), (3.0, "warning"), (50.0, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free * GIB, total=0))
        assert doctor()["disk"].level == level


def test_configured_services_are_tried_and_their_passwords_never_shown(doctor):
    tried = []

    def connect(name, port):
        tried.append((name, port))
        return "Connection refused" if port == 6379 else None

    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://airflow:hunter2@postgres/airflow",
        "AIRFLOW__CELERY__BROKER_URL": "redis://:hunter2@redis:6379/0",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://airflow:8080/execution/",
    }
    found = doctor(environment=environment, connect=connect)
    assert tried == [("postgres", 5432), ("redis", 6379), ("airflow", 8080)]
    assert found["Airflow metadata database"].found == "postgres:5432 answers"
    assert found["Celery broker"].level == "problem"
    assert "AIRFLOW__CELERY__BROKER_URL" in found["Celery broker"].remedy
    assert "MLflow" not in found, "what is not configured is not asked for"
    assert "hunter2" not in json.dumps(as_json(doctor.diagnostics))


def test_sqlite_and_unreadable_urls(doctor, tmp_path):
    def database(url):
        return doctor(environment={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url})["Airflow metadata database"]

    assert database(f"sqlite:///{tmp_path}/airflow.db").level == "ok"
    assert database(f"sqlite:///{tmp_path}/absent/airflow.db").level == "problem"
    assert database("postgresql://").level == "warning"


def test_sqlite_path_after_three_slashes_begins_in_the_working_folder(doctor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rel").mkdir()

    def mlflow(url):
        return doctor(environment={"MLFLOW_TRACKING_URI": url})["MLflow"]

    for url in ("sqlite:///rel/mlflow.db", f"sqlite:///{tmp_path}/rel/mlflow.db", f"file://{tmp_path}/rel/mlflow.db"):
        found = mlflow(url)
        assert (found.level, found.found) == ("ok", str(tmp_path / "rel/mlflow.db"))
    assert mlflow("sqlite:///absent/mlflow.db").found == f"no folder {tmp_path / 'absent'}"
    assert mlflow("sqlite://").level == "ok", "in memory"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:sec/ret@host:5432/db",
        "postgresql://user:sec[ret@host/db",
        "postgresql://user:1234/sec#ret@host/db",
        "postgresql://user:sec@ret/x@host/db",
        "redis://:sec?ret@host:6379/0",
        "redis://host:secret/0",
        "redis://host:99999/0",
    ],
)
def test_url_that_cannot_be_read_is_reported_by_its_variable_alone(doctor, url):
    def connect(name, port):
        raise AssertionError("there is nothing to connect to")

    found = doctor(environment={"AIRFLOW__CELERY__BROKER_URL": url}, connect=connect)["Celery broker"]
    assert (found.level, found.found) == ("warning", "AIRFLOW__CELERY__BROKER_URL cannot be read as a URL")
    assert not any(part in json.dumps(as_json(doctor.diagnostics)) for part in ("sec", "ret", "1234", "99999"))


def test_host_that_cannot_be_one_is_not_reachable():
    assert "idna" in reachable("a" * 64 + ".example", 80)


def test_closed_port_is_refused_and_an_open_one_answers():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert reachable("127.0.0.1", server.getsockname()[1]) is None
        port = server.getsockname()[1]
    assert "refused" in reachable("127.0.0.1", port)


def test_absent_meminfo_is_a_note(tmp_path):
    assert check_memory(tmp_path).level == "note"


def test_command_prints_what_was_found_and_exits_2_on_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    places = ["doctor", "--lake", str(tmp_path / "lake")]
    good = CliRunner().invoke(app, places)
    assert good.exit_code == 0
    assert "a run trains on cpu" in good.stdout
    bad = CliRunner().invoke(app, [*places, "--json", "-o", "machine.allow_cpu=false"])
    assert bad.exit_code == 2
    reported = json.loads(bad.stdout)
    assert reported["ok"] is False
    (device,) = [diagnostic for diagnostic in reported["diagnostics"] if diagnostic["subject"] == "device"]
    assert "sees no GPU" in device["found"]
