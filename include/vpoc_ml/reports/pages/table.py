"""Every page under *Reports*. A new page is one row here, and its titles appear in the navigation in this order."""

from __future__ import annotations

from typing import Any

from vpoc_ml.reports.pages.approvals import ApprovalQuery, approval_page, approvals_page
from vpoc_ml.reports.pages.contracts import ContractsQuery, contracts_page
from vpoc_ml.reports.pages.distribution import DistributionQuery, distribution_page
from vpoc_ml.reports.pages.failing_rows import RowsQuery, failing_rows_download
from vpoc_ml.reports.pages.gaps import GapsQuery, RangesQuery, gap_ranges, gaps_page
from vpoc_ml.reports.pages.gate import CheckQuery, GateQuery, check_page, gate_page
from vpoc_ml.reports.pages.gates import CompareQuery, GatesQuery, compare_page, gates_page
from vpoc_ml.reports.pages.models import ChampionQuery, ModelQuery, champion_page, model_page, models_page
from vpoc_ml.reports.pages.quarantine import (
    QuarantineDownload,
    QuarantineQuery,
    quarantine_download,
    quarantine_page,
)
from vpoc_ml.reports.pages.run import StoredRunQuery, stored_run_page
from vpoc_ml.reports.pages.runs import runs_page
from vpoc_ml.reports.pages.searches import SearchQuery, search_page, searches_page
from vpoc_ml.reports.pages.session import BarsQuery, SessionQuery, session_bars, session_page
from vpoc_ml.reports.pages.tonight import TonightQuery, tonight_page
from vpoc_ml.reports.schedule import NIGHTLY
from vpoc_ml.reports.site import Page, Query

PAGES: tuple[Page[Any], ...] = (
    Page("/", TonightQuery, tonight_page, title="Tonight", dags=(NIGHTLY,)),
    Page("/gates", GatesQuery, gates_page, title="Gates", dags=(NIGHTLY,)),
    Page("/gates/compare", CompareQuery, compare_page, dags=(NIGHTLY,)),
    Page("/gates/{run}/{gate}", GateQuery, gate_page, dags=(NIGHTLY,)),
    Page("/gates/{run}/{gate}/check", CheckQuery, check_page, dags=(NIGHTLY,)),
    Page("/gates/{run}/{gate}/rows", RowsQuery, failing_rows_download, dags=(NIGHTLY,)),
    Page("/distributions/{run}", DistributionQuery, distribution_page, dags=(NIGHTLY,)),
    Page("/gaps", GapsQuery, gaps_page),
    Page("/gaps/ranges", RangesQuery, gap_ranges),
    Page("/quarantine", QuarantineQuery, quarantine_page),
    Page("/quarantine/rows", QuarantineDownload, quarantine_download),
    Page("/approvals", Query, approvals_page, title="Approvals", dags=(NIGHTLY,)),
    Page("/approvals/{run}", ApprovalQuery, approval_page, dags=(NIGHTLY,)),
    Page("/champion", ChampionQuery, champion_page, title="Champion"),
    Page("/models", Query, models_page, title="Models"),
    Page("/models/{version}", ModelQuery, model_page),
    Page("/contracts", ContractsQuery, contracts_page, title="Contracts"),
    Page("/searches", Query, searches_page, title="Searches"),
    Page("/searches/{run}", SearchQuery, search_page),
    Page("/sessions", SessionQuery, session_page, title="Sessions"),
    Page("/sessions/bars", BarsQuery, session_bars),
    Page("/runs", Query, runs_page, title="Runs"),
    Page("/runs/{run}", StoredRunQuery, stored_run_page),
)


def navigation() -> tuple[tuple[str, str], ...]:
    """Return title and path of the pages that the navigation shows."""
    return tuple((page.title, page.path) for page in PAGES if page.title)
