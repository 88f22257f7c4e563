"""Prints as JSON what Airflow's server with FAB's users answers on each path: ``python fab_roles.py HOME PATH...``.

A process of its own, because a process has one auth manager. ``role`` -> path -> status; "" is nobody. The role
``Site`` may open the site, but sees no DAG.
"""

import json
import os
import sys
from pathlib import Path

from vpoc_ops.airflow_home import airflow_env, apply

ROLES = ("Admin", "Viewer", "Public", "Site")
MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


def main(home: Path, paths: list[str]) -> None:
    apply(airflow_env(home, home / "lake"))
    os.environ["AIRFLOW__CORE__AUTH_MANAGER"] = MANAGER
    from airflow.utils.db import initdb

    initdb()
    from airflow.api_fastapi.app import create_app
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from fastapi.testclient import TestClient

    client = TestClient(create_app())
    with get_application_builder() as builder:
        builder.sm.bulk_sync_roles([{"role": "Site", "perms": [("can_read", "Website")]}])
        for role in ROLES:
            builder.sm.add_user(role, role, role, f"{role}@x.test", builder.sm.find_role(role), password="secret")
    found = {"": {path: client.get(path).status_code for path in paths}}
    for role in ROLES:
        token = client.post("/auth/token", json={"username": role, "password": "secret"}).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        found[role] = {path: client.get(path, headers=headers).status_code for path in paths}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
