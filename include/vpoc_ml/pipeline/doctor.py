"""Diagnostics of a machine before it trains, each problem with a remedy.

Diagnostics of this machine apart from its GPUs: Python, memory, disk, the lake, configured services.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from vpoc_ml.config import MachineConfig
from vpoc_ml.errors import PluginError, RegistryRefusedError, VpocError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.active_plugins import use_plugins
from vpoc_ml.training.hardware.device import Try, choose_device, describe_gpu, smoke_test
from vpoc_ml.training.hardware.known_issues import Diagnostic, find_known_issues
from vpoc_ml.training.hardware.probe import GIB, Hardware, probe_hardware

PYTHON = (3, 11)
MEMORY_GIB, DISK_GIB = 2.0, 5.0
CONNECT_SECONDS = 2.0
PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379, "rediss": 6379, "amqp": 5672, "http": 80, "https": 443}
SERVICES = {
    "Airflow metadata database": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "Celery broker": "AIRFLOW__CELERY__BROKER_URL",
    "Airflow API server": "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "MLflow": "MLFLOW_TRACKING_URI",
    "object store": "AWS_ENDPOINT_URL",
}
Connect = Callable[[str, int], str | None]


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Diagnostic:
    """The lock is made for one Python: images such as rocm/pytorch bring others."""
    shown = ".".join(map(str, version))
    if version == PYTHON:
        return Diagnostic("Python", "ok", shown)
    return Diagnostic(
        "Python",
        "problem",
        f"{shown}; the requirements are locked for {PYTHON[0]}.{PYTHON[1]}",
        "Build the worker from an image with Python 3.11 and install torch's ROCm wheel into it;"
        " the wheel brings ROCm's libraries, the host needs the driver only.",
    )


def check_memory(root: Path = Path("/")) -> Diagnostic:
    """A training set of ten years takes about one GiB, ridge regression on it two."""
    with suppress(OSError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024 / GIB
        remedy = "" if free >= MEMORY_GIB else "End other programs, or give the container more."
        return Diagnostic("memory", "warning" if remedy else "ok", f"{free:.1f} GiB available", remedy)
    return Diagnostic("memory", "note", "unknown: no /proc/meminfo")


def check_lake(root: str) -> Iterator[Diagnostic]:
    """Write, read and delete a small object in the lake; report the free space of a local lake."""
    key, text = f".doctor-{uuid.uuid4().hex}.json", "written by vpoc-ml doctor"
    try:
        opened = Lake(root)
        opened.write_text(key, text)
        try:
            if opened.read_text(key) != text:
                raise OSError("what was written was not what was read")
        finally:
            opened.storage.delete(key)
    except Exception as error:  # noqa: BLE001 - every store has errors of its own, all of them mean "not usable"
        remedy = "Correct --lake or VPOC_LAKE, its permissions, or the credentials in the environment."
        yield Diagnostic("lake", "problem", f"{root} cannot be written: {type(error).__name__}: {error}", remedy)
        return
    yield Diagnostic("lake", "ok", f"{opened.storage.root} can be written and read")
    if "://" not in root:
        free = shutil.disk_usage(root).free / GIB
        remedy = "" if free >= DISK_GIB else "Free space, or put the lake elsewhere (--lake)."
        level: str = "ok" if not remedy else "warning" if free >= 1 else "problem"
        yield Diagnostic("disk", level, f"{free:.1f} GiB free below {root}", remedy)  # type: ignore[arg-type]


def check_plugins(root: str) -> Diagnostic:
    """Load the plugins of installed packages and of the lake."""
    try:
        found = use_plugins(root)
    except PluginError as error:
        return Diagnostic("plugins", "problem", f"{error.origin}: found {error.found}", error.remedy)
    except Exception as error:  # noqa: BLE001 - a store that cannot be read is the lake's problem
        return Diagnostic("plugins", "note", f"not read: {type(error).__name__}")
    return Diagnostic("plugins", "ok", found or "none")


def reachable(host: str, port: int) -> str | None:
    """Return the error of a TCP connection, or None."""
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one of a host
        return str(error)
    return None


def check_services(environment: Mapping[str, str], connect: Connect = reachable) -> Iterator[Diagnostic]:
    """Try every service that a variable names; passwords in the URLs are never shown."""
    for name, variable in SERVICES.items():
        url = environment.get(variable, "")
        if url:
            found = _service(name, variable, url, connect)
            yield found
            if name == "MLflow" and found.level == "ok" and url.startswith("http"):
                yield _registry(url)


def _registry(url: str) -> Diagnostic:
    """Ask MLflow's server for the experiment and the models, and write a tag: an open port says little."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
    from mlflow.exceptions import MlflowException

    from vpoc_ml.registry.mlflow_store import MlflowStore

    before = [(each, each.get_raw()) for each in (MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT)]
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(15)
    try:
        MlflowStore(url).check()
    except RegistryRefusedError as error:
        return Diagnostic("registry", "problem", f"{error.place} refuses: {error.found}", error.remedy)
    except MlflowException as error:
        found = f"MLflow's server fails: {' '.join(str(error).split())[:300]}"
        return Diagnostic("registry", "problem", found, "Look at the log of MLflow's server and at its database.")
    finally:
        for each, value in before:
            each.unset() if value is None else each.set(value)
    return Diagnostic("registry", "ok", "experiment and models can be read and written")


def _service(name: str, variable: str, url: str, connect: Connect) -> Diagnostic:
    parts = _parts(url)
    if parts is None:
        remedy = "Percent-encode / ? # @ [ ] in its user and password, such as %2F for /."
        return Diagnostic(name, "warning", f"{variable} cannot be read as a URL", remedy)
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("sqlite", "file", ""):
        # of SQLite, three slashes begin a path from the working folder, four an absolute one
        path = Path(parts.path.removeprefix("/") if scheme == "sqlite" else parts.path).absolute()
        if path.exists() or path.parent.is_dir():
            return Diagnostic(name, "ok", str(path))
        return Diagnostic(name, "problem", f"no folder {path.parent}", f"Make it, or correct {variable}.")
    host, port = parts.hostname, parts.port or PORTS.get(scheme)
    if host is None or port is None:
        return Diagnostic(name, "warning", f"{variable} names no host and port", "Write it as scheme://host:port/...")
    place = f"{host}:{port}"
    trouble = connect(host, port)
    if trouble is None:
        return Diagnostic(name, "ok", f"{place} answers")
    return Diagnostic(name, "problem", f"{place} does not answer: {trouble}", f"Start it, or correct {variable}.")


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL; None where they cannot be told apart, for then any of them may be of the password."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is read only now, and not a number where a password ends the host early
    except ValueError:  # its text holds part of the URL
        return None
    return None if parts.netloc and "@" in parts.path + parts.query + parts.fragment else parts


def examine(
    lake: str,
    config: MachineConfig,
    *,
    hardware: Hardware | None = None,
    environment: Mapping[str, str] = os.environ,
    connect: Connect = reachable,
    smoke: Try = smoke_test,
    root: Path = Path("/"),
) -> list[Diagnostic]:
    """Return the diagnostics in order: software, GPUs, the device of a run, memory, lake, services.

    An unusable GPU is a problem if the settings do not allow the CPU, else a warning. With a GPU the smoke test takes
    about two seconds.

    Args:
        lake: root of the lake.
        config: ``device``, ``allow_cpu`` and ``vram_limit_gib`` are read.
        hardware, environment, connect, smoke, root: what is examined; the real ones by default.
    """
    hardware = hardware or probe_hardware(environment=environment, root=root)
    diagnostics = [check_python(hardware.python)]
    diagnostics.append(Diagnostic("torch", "ok", f"{hardware.torch}, built for {hardware.platform}"))
    if hardware.platform == "rocm":
        driver = hardware.driver or "of the kernel"
        diagnostics.append(Diagnostic("ROCm", "ok", f"HIP {hardware.hip}, driver {driver}"))
    elif hardware.platform == "cuda":
        diagnostics.append(Diagnostic("CUDA", "ok", f"{hardware.cuda}, driver {hardware.driver or 'unknown'}"))
    diagnostics += [describe_gpu(hardware, gpu) for gpu in hardware.gpus]
    issues = list(find_known_issues(hardware))
    try:
        chosen = choose_device(config, hardware=hardware, smoke=smoke)
    except VpocError as error:
        device = Diagnostic("device", "problem", str(error))
    else:  # a run can train, so a problem of a GPU is only a warning
        issues = [replace(each, level="warning") if each.level == "problem" else each for each in issues]
        fallback = chosen.device.type == "cpu" and hardware.has_gpu and config.device != "cpu"
        found = f"a run trains on {chosen.device}: {chosen.reason}"
        device = Diagnostic("device", "warning" if fallback else "ok", found)
    diagnostics += [*issues, device, check_memory(root)]
    return [*diagnostics, *check_lake(lake), check_plugins(lake), *check_services(environment, connect)]


def stops(diagnostics: list[Diagnostic]) -> bool:
    """Return whether any diagnostic stops training."""
    return any(diagnostic.level == "problem" for diagnostic in diagnostics)


def as_json(diagnostics: list[Diagnostic]) -> dict[str, Any]:
    """Return the diagnostics as one JSON-ready object; ``ok`` is false if a problem stops training."""
    return {"ok": not stops(diagnostics), "diagnostics": [asdict(diagnostic) for diagnostic in diagnostics]}
