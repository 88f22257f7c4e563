"""``python -m vpoc_ops.prepare``: database and pool of one Airflow home, in one process."""

from __future__ import annotations


def main() -> None:
    """Create or migrate the database of this environment and the pool that admits one training at a time."""
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        Pool.create_or_update_pool(
            name="gpu", slots=1, description="One training at a time", include_deferred=False, session=session
        )


if __name__ == "__main__":
    main()
