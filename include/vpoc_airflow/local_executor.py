"""Airflow's LocalExecutor, with libraries loaded once.

``AIRFLOW__CORE__EXECUTOR=vpoc_airflow.local_executor.LocalExecutor`` selects it. Airflow recognises a local executor
by the name of its class, so this one has the name of Airflow's own.
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
