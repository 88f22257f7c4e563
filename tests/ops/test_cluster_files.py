"""The files of a cluster: generated secrets, what Compose publishes and demands, health checks."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from vpoc_ops import cluster_env, health

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yaml").read_text()


class Loader(yaml.SafeLoader):
    """YAML with Compose's own tags."""


Loader.add_multi_constructor("!", lambda loader, tag, node: loader.construct_sequence(node))


def test_env_is_for_its_owner_and_never_overwritten(tmp_path, capsys):
    path = tmp_path / ".env"
    assert cluster_env.main([str(path)]) == 0
    content = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cluster_env.main([str(path)]) == 1
    assert "was kept" in capsys.readouterr().err
    assert path.read_text() == content


def test_every_secret_is_generated_anew_and_long():
    first, second = cluster_env.settings({}), cluster_env.settings({})
    secrets = [*cluster_env.PASSWORDS, "FERNET_KEY", "API_SECRET_KEY", "JWT_SECRET"]
    assert len({values[name] for values in (first, second) for name in secrets}) == 2 * len(secrets)
    assert all(len(first[name]) >= 32 for name in secrets)


def test_every_cluster_has_a_name_of_its_own():
    assert re.search(r"^name: vpoc-ml$", COMPOSE, re.MULTILINE)
    names = {cluster_env.settings({})["COMPOSE_PROJECT_NAME"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"vpoc-ml-[0-9a-f]{6}", name) for name in names)


def test_an_upgrade_builds_from_the_same_sources():
    given = {"TORCH_INDEX": "https://wheels.example/cpu", "ROCM_BASE": "", "HOME": "/root"}
    kept = cluster_env.settings(given)
    assert kept["TORCH_INDEX"] == given["TORCH_INDEX"]
    assert not {"ROCM_BASE", "BASE", "HOME"} & kept.keys()
    assert set(re.findall(r"call build-arg,\w+,(\w+)", (ROOT / "Makefile").read_text())) == set(cluster_env.BUILD)


def test_make_images_uses_what_env_keeps_unless_another_is_given(tmp_path):
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    cluster_env.write(tmp_path / ".env", cluster_env.settings({"TORCH_INDEX": "https://kept.example"}, tmp_path))

    def build(*words: str) -> str:
        command = ["make", "--directory", str(tmp_path), "--dry-run", "images", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
        ).stdout

    assert "--target airflow -t vpoc-ml:airflow \\\n\t --build-arg TORCH_INDEX=https://kept.example ." in build()
    assert "TORCH_INDEX=https://given.example" in build("TORCH_INDEX=https://given.example")
    assert "--build-arg ROCM_BASE=rocm:1" in build("ROCM_BASE=rocm:1")


def test_a_source_that_is_given_later_is_kept_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = cluster_env.settings({"TORCH_INDEX": "https://old.example"}, tmp_path)
    cluster_env.write(Path(".env"), first)
    for name in cluster_env.BUILD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_INDEX", "https://new.example")
    monkeypatch.setenv("ROCM_BASE", "rocm:1")
    assert cluster_env.main(["--keep-sources"]) == 0
    kept = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines())
    assert kept == first | {"TORCH_INDEX": "https://new.example", "ROCM_BASE": "rocm:1"}
    assert stat.S_IMODE(Path(".env").stat().st_mode) == 0o600
    before = Path(".env").stat().st_ino
    monkeypatch.delenv("TORCH_INDEX")
    assert cluster_env.main(["--keep-sources"]) == 0
    assert Path(".env").stat().st_ino == before


def test_a_link_and_the_rights_of_env_stay(tmp_path, monkeypatch):
    real = tmp_path / "secrets"
    real.write_text("GPU_SLOTS=1\n")
    real.chmod(0o640)
    monkeypatch.chdir(tmp_path)
    Path(".env").symlink_to(real)
    for name in cluster_env.BUILD:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BASE", "python:mine")
    assert cluster_env.main(["--keep-sources"]) == 0
    assert Path(".env").is_symlink()
    assert real.read_text() == "GPU_SLOTS=1\nBASE=python:mine\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "secrets"]


def test_make_cluster_keeps_the_sources():
    assert "cluster_env --keep-sources" in (ROOT / "Makefile").read_text()


def test_compose_demands_what_env_has_and_has_no_default_secret():
    demanded = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    assert demanded == {*cluster_env.PASSWORDS, "FERNET_KEY", "API_SECRET_KEY", "JWT_SECRET"}
    defaults = re.findall(r"\$\{(\w*(?:PASSWORD|KEY|SECRET)\w*):-([^}]*)\}", COMPOSE)
    assert {value for _, value in defaults} == {""}
    assert {f"{name.upper()}_PASSWORD" for name in cluster_env.USERS} <= demanded


def test_without_an_amd_gpu_the_override_is_chosen(tmp_path):
    absent, present = tmp_path / "absent", tmp_path / "kfd"
    present.touch()
    files = cluster_env.settings({}, absent)["COMPOSE_FILE"].split(":")
    assert all((ROOT / name).is_file() for name in files)
    assert "COMPOSE_FILE" not in cluster_env.settings({}, present)
    assert cluster_env.settings({}, present)["VIDEO_GID"] == str(present.stat().st_gid)
    assert yaml.load((ROOT / files[1]).read_text(), Loader)["services"].keys() == {"worker-rocm"}


def test_services_publish_on_loopback_restart_stop_in_time_and_are_bounded():
    services = yaml.load(COMPOSE, Loader)["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["restart"] == ("no" if name == "init" else "unless-stopped"), name
        assert service["logging"]["options"]["max-size"], name
        assert service["mem_limit"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "healthcheck" in service or name == "init", name
        assert not service.get("cap_add"), name
    assert services["worker"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite")


@pytest.fixture
def server():
    """An API server whose DAG processor is healthy and whose triggerer is not; yields the variables of a container."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/v2/monitor/health" else 404)
            self.end_headers()
            report = {"dag_processor": {"status": "healthy"}, "triggerer": {"status": None}}
            self.wfile.write(json.dumps(report).encode())

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{running.server_port}/execution/"}
        running.shutdown()


def test_health_is_what_the_api_server_reports(server, monkeypatch, capsys):
    monkeypatch.setattr(health.os, "environ", server)
    assert health.main(["dag-processor"]) == 0
    assert health.main(["triggerer"]) == 1
    assert "found None" in capsys.readouterr().err


def test_a_part_that_does_not_answer_is_unhealthy(monkeypatch, capsys):
    monkeypatch.setitem(health.OWN, "scheduler", "http://127.0.0.1:9/health")
    assert health.main(["scheduler"]) == 1
    assert "no answer" in capsys.readouterr().err
    assert health.main(["nothing"]) == 2
