"""Every run that has left something in the lake, with its pages and its failures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from vpoc_ml.artifacts import layout
from vpoc_ml.reports.run_state import FailureRecord, failures, run_pages, shared_pages
from vpoc_ml.reports.site import Query, Site


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run: when it last wrote a file (UTC; None for an empty folder), its failures, name and key of its pages."""

    name: str
    written: datetime | None
    failures: list[FailureRecord]
    pages: list[tuple[str, str]]


def runs_page(site: Site, query: Query) -> str:
    """Return the list of all runs, newest first."""
    storage = site.lake.storage
    reports = storage.written(layout.REPORTS)
    files: dict[str, dict[str, datetime]] = {name: {} for name in storage.folders(layout.RUNS)}
    for key, at in storage.written(layout.RUNS).items():
        files.setdefault(key.split("/")[1], {})[key] = at
    runs = [
        ListedRun(name, max(own.values(), default=None), failures(site.lake, name, own), run_pages(name, own | reports))
        for name, own in files.items()
    ]
    runs.sort(key=lambda run: (run.written.timestamp() if run.written else 0.0, run.name), reverse=True)
    return site.render("runs.html", runs=runs, shared=shared_pages(reports))
