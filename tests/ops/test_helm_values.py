"""The values for the official Airflow Helm chart: valid for its schema, and the same settings as docker-compose.yaml.

``helm_schema.json`` is the part of the chart's ``values.schema.json`` that the values use, condensed: keys, types,
required fields, and which objects refuse unknown keys. The source is the chart's development version 1.22.0, with
Airflow 3.2.0 as its default (https://github.com/apache/airflow, folder ``chart``; the copy at
https://github.com/n-badtke-cg/airflow, commit e4e37106dd50fae8a74fa74de42fa6324d720104, file
``airflow/values.schema.json``). Of Kubernetes' own types it has the fields that the values use.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from vpoc_ops.cluster_doctor import examine
from vpoc_ops.cluster_env import MLFLOW_TASKS, USERS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMA = json.loads(Path(__file__).with_name("helm_schema.json").read_text())
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
GPU = "amd.com/gpu"

DIFFERENT = {"AIRFLOW__CORE__EXECUTOR": "the chart writes its value `executor` into airflow.cfg and into pods"}
"""Variables of deploy/airflow.env that `env` does not have, and why."""
SITE = {"VPOC_LAKE", "AWS_DEFAULT_REGION", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME"}
PARTS = {"apiServer": "api-server", "scheduler": "scheduler", "dagProcessor": "dag-processor", "triggerer": "triggerer"}
"""Part of the chart that reads the database: service of Compose."""
WORKERS = {"cpu": "worker", "rocm": "worker-rocm"}
KUBERNETES_GRACE = 30
"""Seconds that Kubernetes gives a pod whose values name none."""


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def merged(base: Any, above: Any) -> Any:
    """Return what Helm makes of two files: objects are merged, everything else is replaced."""
    if not (isinstance(base, dict) and isinstance(above, dict)):
        return above
    return base | {key: merged(base.get(key), value) for key, value in above.items()}


BASE = load("helm-values.yaml")
PODS = merged(BASE, load("helm-values-gpu-pod.yaml"))
BOTH = pytest.mark.parametrize("values", [BASE, PODS], ids=["celery", "gpu-pod"])
COMPOSE = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yaml").read_text())
SERVICES = yaml.safe_load(COMPOSE)["services"]


def unknown_keys(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the keys that the schema does not know, also where the chart itself accepts any."""
    schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if path == ".workers.celery.sets" and isinstance(value, list):  # each set overrides fields of workers.celery
        celery = SCHEMA["properties"]["workers"]["properties"]["celery"]["properties"]
        schema = {"items": {"properties": celery | {"name": {"type": "string"}}}}
    if isinstance(value, list):
        return [key for each in value for key in unknown_keys(each, schema.get("items", {}), path)]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    found = [f"{path}.{key}" for key in value if key not in known]
    return found + [
        key
        for name, each in value.items()
        if name in known
        for key in unknown_keys(each, known[name], f"{path}.{name}")
    ]


def environment(entries: list[dict[str, Any]]) -> dict[str, Any]:
    names = [each["name"] for each in entries]
    assert len(names) == len(set(names)), names
    return {each["name"]: each.get("value") or each["valueFrom"]["secretKeyRef"] for each in entries}


def worker_set(values: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in values["workers"]["celery"]["sets"] if each["name"] == name]
    return found


def gibibytes(size: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([a-zA-Z]+)", size).groups()
    return int(number) / {"m": 1024, "Mi": 1024, "g": 1, "Gi": 1}[unit]


def seconds(time: str) -> int:
    return int(time[:-1]) * {"s": 1, "m": 60}[time[-1]]


@BOTH
def test_values_are_valid_for_the_schema_of_the_chart(values):
    jsonschema.validate(values, SCHEMA, jsonschema.Draft7Validator)
    assert unknown_keys(values, SCHEMA) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheduler": {"livenesProbe": {}}},
        {"images": {"pod_template": {"tags": "x"}}},
        {"env": [{"name": "A", "value": 1}]},
        {"executor": "Celery"},
        {"workers": {"kubernetes": {"resources": {"limit": {GPU: 1}}}}},
        {"migrateDatabaseJob": {"args": "python -m vpoc_ops.cluster_init"}},
    ],
)
def test_the_schema_refuses_misspelt_keys_and_wrong_types(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(BASE, wrong), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"migrateDatabasejob": {}}, ".migrateDatabasejob"),
        ({"workers": {"celery": {"waitForMigration": {}}}}, ".workers.celery.waitForMigration"),
        ({"workers": {"celery": {"sets": [{"name": "x", "queues": "y"}]}}}, ".workers.celery.sets.queues"),
    ],
)
def test_misspelt_keys_are_found_where_the_chart_accepts_any(wrong, key):
    assert unknown_keys(merged(BASE, wrong), SCHEMA) == [key]


@BOTH
def test_settings_are_those_of_airflow_env(values):
    lines = (DEPLOY / "airflow.env").read_text().splitlines()
    compose = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert environment(values["env"]).keys() == (compose.keys() - DIFFERENT.keys()) | SITE
    assert {name: each for name, each in environment(values["env"]).items() if name not in SITE} == {
        name: each for name, each in compose.items() if name not in DIFFERENT
    }
    assert values["executor"].split(",")[0] == compose["AIRFLOW__CORE__EXECUTOR"]
    assert environment(values["workers"]["celery"]["env"])["AIRFLOW__CORE__EXECUTOR"] == values["executor"]


def test_the_version_is_that_of_the_lock():
    assert f"\napache-airflow=={BASE['airflowVersion']}\n" in (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize("part", PARTS)
def test_parts_run_with_the_command_memory_and_grace_period_of_compose(part):
    values, service = BASE[part], SERVICES[PARTS[part]]
    shell, option, line = values["args"]
    wait, _, command = line.partition(" && exec ")
    assert (shell, option, wait.split()[:3]) == ("sh", "-c", ["airflow", "db", "check-migrations"])
    assert command.split() == service["command"]
    assert gibibytes(values["resources"]["limits"]["memory"]) == gibibytes(service["mem_limit"])
    assert values.get("terminationGracePeriodSeconds", KUBERNETES_GRACE) == seconds(service["stop_grace_period"])


@pytest.mark.parametrize("name", WORKERS)
def test_workers_run_with_the_command_memory_and_grace_period_of_compose(name):
    values, service = worker_set(BASE, name), SERVICES[WORKERS[name]]
    assert values["args"] == service["command"]
    assert values["args"][values["args"].index("--queues") + 1] == values["queue"]
    assert gibibytes(values["resources"]["limits"]["memory"]) == gibibytes(service["mem_limit"])
    assert values["terminationGracePeriodSeconds"] == seconds(service["stop_grace_period"])


def test_the_job_prepares_the_database_as_compose_does():
    job, service = BASE["migrateDatabaseJob"], SERVICES["init"]
    assert job["args"] == service["command"]
    given = environment(job["env"])
    assert {f"{user.upper()}_PASSWORD" for user in USERS} < given.keys()
    assert given.keys() == service["environment"].keys() - SERVICES["scheduler"]["environment"].keys() | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    }
    assert not BASE["createUserJob"]["enabled"]
    rocm = worker_set(BASE, "rocm")
    slots = int(rocm["args"][rocm["args"].index("--concurrency") + 1])
    assert int(given["GPU_SLOTS"]) == rocm["replicas"] * slots


@BOTH
def test_only_parts_that_read_the_database_have_its_password(values):
    connection = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    secret = {"name": "vpoc-database", "key": "connection"}
    assert not values["enableBuiltInSecretEnvVars"][connection]
    assert "metadataSecretName" not in values["data"]
    for part in (*PARTS, "migrateDatabaseJob"):
        assert environment(values[part]["env"])[connection] == secret, part
        assert not values[part].get("waitForMigrations", {}).get("enabled"), part
    assert environment(values["workers"]["celery"]["env"])[connection].startswith("sqlite:")
    assert not values["workers"]["celery"]["waitForMigrations"]["enabled"]
    assert "vpoc-database" not in json.dumps(values["workers"])


@BOTH
def test_every_pod_is_user_50000_without_capabilities(values):
    pods = [values["securityContexts"]["pod"]]
    pods += [
        each["securityContexts"]["pod"] for each in values["workers"]["celery"]["sets"] if "securityContexts" in each
    ]
    pods += [values["workers"]["kubernetes"]["securityContexts"]["pod"]] if "kubernetes" in values["workers"] else []
    assert len(pods) == 2
    for pod in pods:
        assert (pod["runAsUser"], pod["runAsGroup"], pod["runAsNonRoot"]) == (50000, 0, True)
    containers = values["securityContexts"]["containers"]
    assert containers == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_gpu_belongs_to_the_worker_of_queue_rocm():
    holders = {each["name"]: each["resources"]["limits"].get(GPU) for each in BASE["workers"]["celery"]["sets"]}
    assert holders == {"cpu": None, "rocm": 1}
    assert worker_set(BASE, "rocm")["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert not BASE["allowPodLaunching"]


def test_on_top_trainings_get_a_pod_with_the_gpu_and_the_image_for_it():
    assert [each["name"] for each in PODS["workers"]["celery"]["sets"]] == ["cpu"]
    assert worker_set(PODS, "cpu") == worker_set(BASE, "cpu")
    pod, rocm = PODS["workers"]["kubernetes"], worker_set(BASE, "rocm")
    for field in (
        "resources",
        "securityContexts",
        "extraVolumes",
        "extraVolumeMounts",
        "terminationGracePeriodSeconds",
    ):
        assert pod[field] == rocm[field], field
    assert PODS["allowPodLaunching"]
    assert PODS["images"]["airflow"]["tag"] == "airflow"
    assert PODS["images"]["pod_template"]["tag"] == BASE["images"]["airflow"]["tag"] == "rocm-worker"
    assert PODS["images"]["pod_template"]["repository"] == BASE["images"]["airflow"]["repository"]
    for field, part in PODS["config"]["kubernetes_executor"].items():
        assert part == f"{{{{ .Values.images.pod_template.{field.rpartition('_')[2]} }}}}"
    assert PODS["extraEnv"].startswith(BASE["extraEnv"])
    train = environment(yaml.safe_load(PODS["extraEnv"]))["VPOC_TRAIN_EXECUTOR"]
    assert train in PODS["executor"].split(",")[1:]


@BOTH
def test_the_doctor_finds_no_problem_in_a_worker(values):
    worker = values["workers"]["celery"]
    given = environment([*values["env"], *yaml.safe_load(values["extraEnv"]), *worker["env"]])
    given |= dict.fromkeys(("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY"), "x" * 44)
    given |= {"AIRFLOW__API_AUTH__JWT_SECRET": "y" * 64, "VPOC_REGISTRY": "/registry"}
    queues = {each["queue"] for each in worker["sets"]}
    assert [each for each in examine(given, lambda broker: queues, lambda pool: 1) if each.level == "problem"] == []


def keys_of_secrets(value: Any) -> set[tuple[str, str]]:
    """Return every secret and key that values or manifests read."""
    if isinstance(value, list):
        return {key for each in value for key in keys_of_secrets(each)}
    if not isinstance(value, dict):
        return set()
    own = {(value["secretName"], value["secretKey"])} if "secretKey" in value else set()
    if "secretKeyRef" in value:
        own.add((value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]))
    return own | {key for each in value.values() for key in keys_of_secrets(each)}


def test_the_page_creates_every_secret_and_no_file_has_a_password():
    created = {
        (name, key)
        for name, options in re.findall(r"create secret generic (\S+) ((?:[^\n]*\\\n)*[^\n]*)", PAGE)
        for key in re.findall(r"--from-literal=([\w-]+)=", options)
    }
    manifests = list(yaml.safe_load_all((DEPLOY / "kubernetes-mlflow.yaml").read_text()))
    read = keys_of_secrets([BASE, PODS, manifests])
    read |= {(BASE["fernetKeySecretName"], "fernet-key"), (BASE["apiSecretKeySecretName"], "api-secret-key")}
    read |= {(BASE["jwtSecretName"], "jwt-secret"), (BASE["redis"]["passwordSecretName"], "password")}
    read |= {(name, "connection") for key, name in BASE["data"].items() if key.endswith("SecretName")}
    assert created == read
    texts = [path.read_text() for path in DEPLOY.glob("*.yaml")]
    assert not [each for text in texts for each in re.findall(r"://[^\s/@]*:[^\s/@]+@", text)]


def test_mlflow_runs_as_in_compose_at_the_address_that_workers_use():
    claim, service, deployment = yaml.safe_load_all((DEPLOY / "kubernetes-mlflow.yaml").read_text())
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == SERVICES["mlflow"]["command"]
    given = environment(container["env"])
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert environment(BASE["env"])["MLFLOW_TRACKING_URI"] == f"http://{name}:{port}"
    assert f"{name}:{port}" in given["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert given.keys() == SERVICES["mlflow"]["environment"].keys()
    assert environment(BASE["env"])["MLFLOW_TRACKING_USERNAME"] == MLFLOW_TASKS
    assert given["MLFLOW_PASSWORD"] in [
        {"name": each["secretName"], "key": each["secretKey"]}
        for each in BASE["secret"]
        if each["envName"] == "MLFLOW_TRACKING_PASSWORD"
    ]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert claim["metadata"]["name"] == BASE["logs"]["persistence"]["existingClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    claims = re.findall(r'"claimName": "([^"]+)"', json.dumps([PODS, BASE, pod]))
    assert set(claims) == {claim["metadata"]["name"]}
