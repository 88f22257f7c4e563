"""The page of one run: why it failed, its training while it waits or runs, its pages, its report."""

from __future__ import annotations

from typing import Any

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.layout import dag_run_name, run_name
from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.run_state import failures, run_pages, running_training, shared_pages
from vpoc_ml.reports.sentences import waiting_advice, waits_for
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

REFRESH_SECONDS = 10


class StoredRunQuery(Query):
    """``run`` is the name of the run's folder."""

    run: str


def stored_run_page(site: Site, query: StoredRunQuery) -> str:
    """Return the page of the run with this folder.

    Raises:
        NoSuchPageError: the lake has no such run.
    """
    if not _exists(site.lake, query.run):
        raise NoSuchPageError(f"Expected the name of a run of {site.lake.root}; found {query.run}. Open it from Runs.")
    return run_page(site, query.run)


def find_run(lake: Lake, dag_id: str, run_id: str) -> str | None:
    """Return the folder's name of the run that Airflow calls ``run_id`` in the DAG ``dag_id``; None without one."""
    names = dag_run_name(dag_id, run_id), run_name(run_id)  # the second: folders of an earlier version, without the DAG
    return next((name for name in names if _exists(lake, name)), None)


def run_page(site: Site, run: str | None) -> str:
    """Return the page of a run; None: a run that has not written anything yet."""
    if run is None:
        empty: dict[str, Any] = {
            "run": None,
            "decision": None,
            "failures": [],
            "training": None,
            "pages": [],
            "waiting": [],
        }
        return site.render("run.html", **empty, refresh_seconds=REFRESH_SECONDS)
    lake = site.lake
    files = lake.storage.written(layout.run_folder(run))
    own = run_pages(run, files | lake.storage.written(f"{layout.REPORTS}/{layout.run_reports(run)}"))
    failed = failures(lake, run, files)
    training = None if failed else running_training(lake, run, files, site.now)
    waiting = [each for each in site.waiting() if each.run == run]
    running = training or waiting or (not failed and layout.run_file(run, layout.REPORT) not in files)
    stored = lake.storage.read(layout.run_file(run, layout.DECISION))
    return site.render(
        "run.html",
        run=run,
        decision=None if stored is None else Decision.model_validate_json(stored),
        failures=failed,
        training=training,
        waiting=[(each, waits_for(each), waiting_advice(each)) for each in waiting],
        pages=[*own, *shared_pages(dict.fromkeys([layout.DATA_DOCS_PAGE], site.now))] if own else [],
        gates=next((key for title, key in own if title == "gates"), None),
        refresh_seconds=REFRESH_SECONDS if running else None,
    )


def _exists(lake: Lake, run: str) -> bool:
    if run != run_name(run):
        return False
    known = lake.storage.folders(layout.RUNS)
    return run in known or bool(lake.storage.written(f"{layout.REPORTS}/{layout.run_reports(run)}"))
