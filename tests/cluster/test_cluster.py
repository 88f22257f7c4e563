"""A running cluster: who may do what, where the work is done, and that it computes what the command line computes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from vpoc_ops import cluster_env

from .stack import ROOT, SERVICES, run, wait_until

LOOPBACK = "127.0.0.1"
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
APPROVAL = "/api/v2/dags/vpoc_nightly/dagRuns/none/taskInstances/approve/-1/hitlDetails"


@pytest.fixture(scope="module")
def containers(stack):
    """What Docker says of every running container, by service."""
    ids = {service: stack.containers(service) for service in SERVICES}
    return {service: json.loads(run(["docker", "inspect", *found], 60)) for service, found in ids.items()}


def test_every_container_is_healthy(containers):
    states = {service: [each["State"]["Health"]["Status"] for each in found] for service, found in containers.items()}
    assert states == {service: ["healthy"] * count for service, count in SERVICES.items()}


def test_ports_are_open_on_the_loopback_interface_only(containers):
    bound = {}
    for service, found in containers.items():
        for each in found:
            for port, places in (each["HostConfig"]["PortBindings"] or {}).items():
                bound[service, port] = {place["HostIp"] for place in places}
    assert bound == {("api-server", "8080/tcp"): {LOOPBACK}, ("mlflow", "5000/tcp"): {LOOPBACK}}


def test_no_process_runs_as_root_or_has_a_capability(stack):
    for service in SERVICES:
        found = stack.inside(service, "id -u; grep -h CapEff /proc/[0-9]*/status | sort -u").split()
        assert found[0] != "0", service
        assert set(found[1:]) == {"CapEff:", "0000000000000000"}, service


def test_no_secret_is_in_an_image_or_a_process_list(stack, containers):
    secrets = [value for name, value in stack.values.items() if name.endswith(("PASSWORD", "KEY", "SECRET"))]
    images = {each["Image"] for found in containers.values() for each in found}
    shown = run(["docker", "inspect", *images], 60)
    shown += "".join(run(["docker", "history", "--no-trunc", image], 60) for image in images)
    for service in SERVICES:
        shown += stack.inside(service, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    assert len(secrets) == len(cluster_env.PASSWORDS) + 3
    assert not [secret for secret in secrets if secret in shown]


def test_pages_need_a_login(stack):
    for path in ("/vpoc-reports/", "/api/v2/dags"):
        assert stack.call("GET", path, user="").status_code == 401, path
        assert stack.call("GET", path, user="viewer").status_code == 200, path
    for path in ("/", EXPERIMENT):
        assert stack.ask_mlflow("GET", path, user="").status_code == 401, path
        assert stack.ask_mlflow("GET", path, user="viewer").status_code == 200, path
    tag = {"experiment_id": "0", "key": "note", "value": "text"}
    path = "/api/2.0/mlflow/experiments/set-experiment-tag"
    assert [stack.ask_mlflow("POST", path, tag, user).status_code for user in ("viewer", "admin")] == [403, 200]


def test_mlflow_refuses_the_name_of_another_host(stack):
    login = ("viewer", stack.values["VIEWER_PASSWORD"])
    answer = httpx.get(stack.mlflow + EXPERIMENT, auth=login, headers={"Host": "evil.example"}, timeout=30)
    assert answer.status_code == 403, answer.text


def test_the_doctor_finds_no_problem_in_a_worker_but_the_small_disk_of_the_test(stack):
    def levels():
        shown = stack.inside("worker", "vpoc-ml doctor --cluster --json || test $? = 2")
        return {each["subject"]: each["level"] for each in json.loads(shown)["diagnostics"]}

    def problems():
        return [subject for subject, level in levels().items() if level == "problem"]

    # A worker that is too busy to answer within seconds counts as dead. The disk has 1 GiB, which is enough when empty.
    wait_until(lambda: set(problems()) <= {"disk"}, 90, "no problem but the disk", found=lambda: str(problems()))
    assert {"queue default", "queue rocm", "shared lake", "registry"} <= levels().keys()


def test_the_gpu_worker_computes_with_the_torch_of_its_base_image(stack):
    command = "python -c 'import importlib.util as found; print(found.find_spec(\"torch\").origin)'"
    origins = {service: stack.inside(service, command) for service in ("worker", "worker-rocm")}
    assert origins["worker"].startswith("/opt/vpoc/")
    assert not origins["worker-rocm"].startswith("/opt/vpoc/")


def test_airflow_is_driven_from_another_machine(stack):
    command = [sys.executable, "-m", "vpoc_ops.supervisor", "airflow", "pools", "list", "--output", "json"]
    done = subprocess.run(command, env=stack.remote("admin"), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"gpu", "default_pool"} <= {pool["name"] for pool in json.loads(done.stdout)}


def test_the_files_for_further_machines_fit_together(stack, tmp_path):
    values = stack.values | {
        "COMPOSE_FILE": "docker-compose.yaml:deploy/compose.shared.yaml",
        "SHARED": "/srv/vpoc",
        "PRIVATE_ADDRESS": "10.0.0.1",
    }
    shared = tmp_path / ".env"
    cluster_env.write(shared, values)
    shown = json.loads(stack.compose("--env-file", str(shared), "config", "--format", "json"))
    published = {(name, port["host_ip"]) for name, each in shown["services"].items() for port in each.get("ports", ())}
    assert published == {("redis", "10.0.0.1")} | {
        (name, address) for name in ("api-server", "mlflow") for address in (LOOPBACK, "10.0.0.1")
    }
    folders = {name: each.get("driver_opts", {}).get("device") for name, each in shown["volumes"].items()}
    assert {name for name, device in folders.items() if device} == {"lake", "registry", "logs"}
    assert folders["lake"] == "/srv/vpoc/lake"


def test_every_kernel_is_in_the_image(stack):
    kernels = {
        f"{path.stem}.{name}"
        for path in (ROOT / "include").rglob("*.py")
        for options, name in re.findall(r"^@numba\.njit\(([^)]*)\)\ndef (\w+)", path.read_text(), re.MULTILINE)
        if "cache=True" in options and "inline" not in options
    }
    compiled = stack.inside("worker", "find /opt/airflow/numba -name '*.nbi'").split()
    assert len(kernels) > 30
    assert {Path(path).name.split("-")[0] for path in compiled} == kernels


@pytest.mark.parametrize(
    ("user", "trigger", "approve"), [("viewer", 403, 403), ("reviewer", 403, 404), ("operator", 200, 404)]
)
def test_each_role_may_do_its_part_only(stack, user, trigger, approve):
    # a promotion would wait in the pool of the GPU, before the training of a later test
    body = {"logical_date": None, "conf": {"action": "rollback", "reason": "role test", "version": 99}}
    assert stack.call("POST", "/api/v2/dags/vpoc_champion/dagRuns", body, user).status_code == trigger
    answer = stack.call("PATCH", APPROVAL, {"chosen_options": ["Approve"], "params_input": {}}, user)
    assert answer.status_code == approve, answer.text


def test_a_rollback_waits_for_no_gpu(stack, night):
    assert stack.compose("ps", "--quiet", "worker-rocm") == ""
    run_id = stack.trigger("vpoc_champion", {"action": "rollback", "reason": "loses money", "version": 99})
    assert stack.wait("vpoc_champion", [run_id], 300) == ["failed"]
    states = {each["task_id"]: each["state"] for each in stack.tasks("vpoc_champion", run_id)}
    assert states == {"read_request": "success", "promote": "skipped", "rollback": "failed"}
    assert "RegistryError" in stack.log("vpoc_champion", run_id, "rollback", 1)


def test_four_contracts_are_built_by_two_workers_beside_a_night(stack, backfill_command, backfill, night, took):
    states = stack.wait("vpoc_contracts", backfill, 1200)
    assert states == ["success"] * 4, "\n".join(stack.failures("vpoc_contracts", each) for each in backfill)
    tasks = [task for each in backfill for task in stack.tasks("vpoc_contracts", each)]
    assert len({task["hostname"] for task in tasks if task["hostname"]}) == 2
    spans = sorted((task["start_date"], task["end_date"]) for task in tasks if task["start_date"])
    assert any(later < end for (_, end), (later, _) in pairwise(spans))
    last = max(end for _, end in spans)
    nightly = [task for task in stack.tasks("vpoc_nightly", night) if task["start_date"] and task["end_date"]]
    assert any(task["start_date"] < last and spans[0][0] < task["end_date"] for task in nightly)
    begin, end = datetime.fromisoformat(spans[0][0]), datetime.fromisoformat(last)
    took("backfill of four contracts beside a nightly run", (end - begin).total_seconds())
    shown, _ = backfill_command.communicate(timeout=120)
    assert backfill_command.returncode == 0, shown
    assert all(run_id in shown for run_id in backfill), shown
