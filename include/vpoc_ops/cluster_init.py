"""``python -m vpoc_ops.cluster_init``: prepares the database of a cluster: tables, pool, roles and users.

It runs before the parts of Airflow start, and again at every start: what is there stays, except the passwords, which
are those of ``.env``.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.models.pool import Pool
from airflow.utils.db import initdb
from airflow.utils.session import create_session

from vpoc_ops.cluster_env import USERS

REVIEWER = "Reviewer"
ROLES = dict(zip(USERS, ("Admin", "Op", REVIEWER, "Viewer"), strict=True))
"""Each user's role. Admin: everything. Op: starts runs, pools, connections. Reviewer: reads, and answers requests
for approval. Viewer: reads."""


def main() -> None:
    """Prepare the database of this process's environment."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    initdb()
    add_pool(int(os.environ["GPU_SLOTS"]))
    with get_application_builder() as builder:
        security = builder.sm
        add_reviewer(security)
        for name, role in ROLES.items():
            set_user(security, name, role, os.environ[f"{name.upper()}_PASSWORD"])


def add_pool(slots: int) -> None:
    """Create the pool that admits ``slots`` trainings at a time; an existing one keeps its slots."""
    with create_session() as session:
        if Pool.get_pool("gpu", session=session) is None:
            description = "Trainings at one time"
            Pool.create_or_update_pool("gpu", slots, description, include_deferred=False, session=session)


def add_reviewer(security: Any) -> None:
    """Create or update the role of reviewers: a viewer who may answer a request for approval.

    Airflow demands the right to edit DAGs for it. That allows pausing one, but not starting a run.
    """
    from airflow.providers.fab.www.security import permissions as fab

    viewer = [
        (permission.action.name, permission.resource.name) for permission in security.find_role("Viewer").permissions
    ]
    own = [
        (fab.ACTION_CAN_EDIT, fab.RESOURCE_HITL_DETAIL),
        (fab.ACTION_CAN_EDIT, fab.RESOURCE_DAG),
        (fab.ACTION_CAN_ACCESS_MENU, fab.RESOURCE_HITL_DETAIL),
    ]
    security.bulk_sync_roles([{"role": REVIEWER, "perms": [*viewer, *own]}])


def set_user(security: Any, name: str, role: str, password: str) -> None:
    """Create the user ``name``, or give the existing one ``password``."""
    user = security.find_user(username=name)
    if user:
        security.reset_password(user.id, password)
    else:
        security.add_user(name, name, name, f"{name}@localhost", security.find_role(role), password=password)


if __name__ == "__main__":
    main()
