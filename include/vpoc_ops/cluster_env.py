"""``python3 -m vpoc_ops.cluster_env FILE``: writes the ``.env`` of a cluster once, with generated passwords and keys.

With ``--keep-sources`` it adds to an existing ``.env`` the variables of ``BUILD`` that make was given.

Standard library only: it runs on a machine that has nothing but Python and Docker.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

GPU = Path("/dev/kfd")
"""Device of the AMD kernel driver; absent: there is no AMD GPU."""
CPU_FILES = "docker-compose.yaml:deploy/compose.cpu.yaml"
USERS = ("admin", "operator", "reviewer", "viewer")
"""People's users of Airflow and MLflow; the variable NAME_PASSWORD has the password."""
MLFLOW_TASKS = "tasks"
"""MLflow's user of Airflow's tasks; its password is MLFLOW_PASSWORD."""
PASSWORDS = (
    "POSTGRES_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "MLFLOW_PASSWORD",
    "REDIS_PASSWORD",
    *(f"{name.upper()}_PASSWORD" for name in USERS),
)


BUILD = ("BASE", "ROCM_BASE", "TORCH_INDEX", "ROCM_TORCH_INDEX")
"""Variables of `make images` that `.env` keeps, so that an upgrade builds from the same sources."""


def settings(environment: Mapping[str, str], gpu: Path = GPU) -> dict[str, str]:
    """Return the variables of a new cluster.

    Args:
        environment: that of the command; its variables of ``BUILD`` are kept.
        gpu: the device whose absence selects the CPU override.
    """
    values = {name: secrets.token_urlsafe(24) for name in PASSWORDS} | {
        # a name of its own: another checkout on this machine must not take over these containers and volumes
        "COMPOSE_PROJECT_NAME": f"vpoc-ml-{secrets.token_hex(3)}",
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "API_SECRET_KEY": secrets.token_hex(32),
        "JWT_SECRET": secrets.token_hex(32),
        "UI_PORT": "8080",
        "MLFLOW_PORT": "5000",
        "VPOC_RAW": "./data/raw",
        "WORKERS": "1",
        "GPU_SLOTS": "1",
    }
    values |= {name: environment[name] for name in BUILD if environment.get(name)}
    if gpu.exists():
        render = sorted(Path("/dev/dri").glob("renderD*"))
        groups = {"VIDEO_GID": gpu, "RENDER_GID": render[0] if render else gpu}
        return values | {name: str(device.stat().st_gid) for name, device in groups.items()}
    return values | {"COMPOSE_FILE": CPU_FILES}


def write(path: Path, values: Mapping[str, str]) -> None:
    """Write ``values`` to a new file that only its owner can read.

    Raises:
        FileExistsError: the file is there. Another password would lock the database's volume.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{name}={value}\n" for name, value in values.items()))


def keep_sources(path: Path, environment: Mapping[str, str]) -> None:
    """Replace or add the variables of ``BUILD`` that ``environment`` has; the rest of the file stays."""
    given = {name: environment[name] for name in BUILD if environment.get(name)}
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line.partition("=")[0] not in given]
    wanted = [*kept, *(f"{name}={value}" for name, value in given.items())]
    if sorted(wanted) == sorted(lines):
        return
    place = path.resolve()  # a link stays one
    owner = place.stat()
    handle, new = tempfile.mkstemp(prefix=".env.", dir=place.parent)  # for its owner only
    with os.fdopen(handle, "w") as file:
        file.write("".join(f"{line}\n" for line in wanted))
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(owner.st_mode))
    os.replace(new, place)


def main(arguments: list[str]) -> int:
    """Write the file that ``arguments`` names, by default ``.env``; return the exit code."""
    if arguments[:1] == ["--keep-sources"]:
        keep_sources(Path(".env"), os.environ)
        return 0
    path = Path(arguments[0] if arguments else ".env")
    try:
        write(path, settings(os.environ))
    except FileExistsError:
        sys.stderr.write(
            f"Expected no {path}; it is there and was kept. Its passwords belong to the volumes of the cluster."
            " Move it away to make a new one.\n"
        )
        return 1
    sys.stdout.write(f"{path}: written, mode 0600. Keep a copy: without it the volumes cannot be read.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
