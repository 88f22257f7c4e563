"""Every run that has left something in the lake, those of other DAGs among them, with its pages and its failure."""

from __future__ import annotations

from vpoc_ml.artifacts import layout
from vpoc_ml.reports.nights import all_nights
from vpoc_ml.reports.site import Query, Site


def runs_page(site: Site, query: Query) -> str:
    """Return the list of all runs, newest first."""
    table = all_nights(site.lake)
    docs = layout.DATA_DOCS_PAGE if site.lake.exists(layout.DATA_DOCS_PAGE) else None
    return site.render("runs.html", nights=table.nights, unread=table.unread, docs=docs)
