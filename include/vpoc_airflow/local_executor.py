"""Airflow's LocalExecutor, with libraries loaded once.

``AIRFLOW__CORE__EXECUTOR=vpoc_airflow.local_executor.LocalExecutor`` puts it to use. Its last name is that of Airflow's
own: Airflow recognises a local executor by it.
"""

from __future__ import annotations

from airflow.executors import local_executor

from vpoc_airflow.preload import preload


class LocalExecutor(local_executor.LocalExecutor):  # type: ignore[misc]  # Airflow has no types
    """Loads the libraries of the tasks in the scheduler, from which it forks its workers."""

    def start(self) -> None:
        """Load the libraries, then start the workers."""
        preload()
        super().start()
