"""Every page under *Reports*. A new page is one row here, and its titles appear in the navigation in this order."""

from __future__ import annotations

from typing import Any

from vpoc_ml.reports.pages.contracts import ContractsQuery, contracts_page
from vpoc_ml.reports.pages.run import StoredRunQuery, stored_run_page
from vpoc_ml.reports.pages.runs import runs_page
from vpoc_ml.reports.pages.searches import SearchQuery, search_page, searches_page
from vpoc_ml.reports.pages.session import BarsQuery, SessionQuery, session_bars, session_page
from vpoc_ml.reports.site import Page, Query

PAGES: tuple[Page[Any], ...] = (
    Page("/", Query, runs_page, title="Runs"),
    Page("/runs/{run}", StoredRunQuery, stored_run_page),
    Page("/searches", Query, searches_page, title="Searches"),
    Page("/searches/{run}", SearchQuery, search_page),
    Page("/contracts", ContractsQuery, contracts_page, title="Contracts"),
    Page("/sessions", SessionQuery, session_page, title="Sessions"),
    Page("/sessions/bars", BarsQuery, session_bars),
)


def navigation() -> tuple[tuple[str, str], ...]:
    """Return title and path of the pages that the navigation shows."""
    return tuple((page.title, page.path) for page in PAGES if page.title)
