"""Adds *Reports* to Airflow's navigation and to every run; the pages are those of ``vpoc_airflow.report_routes``."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/vpoc-reports"


class VpocReports(AirflowPlugin):
    """The menu entry, the tab of a run, and the application behind both."""

    name = "vpoc_reports"
    external_views = [  # noqa: RUF012 - Airflow reads a plain class attribute
        {
            "name": "Reports",
            "href": f"{PREFIX}/",
            "destination": "nav",
            "url_route": "vpoc-reports-index",
            "nav_top_level": True,
        },
        {
            "name": "Reports",
            "href": f"{PREFIX}/run/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "vpoc-reports-run",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """Return the application's mount point; only the API server reads it."""
        from vpoc_airflow.report_routes import make_app

        return [{"app": make_app(), "url_prefix": PREFIX, "name": "vpoc_reports"}]
