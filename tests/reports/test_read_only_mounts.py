"""Every page from a lake and a registry that are mounted read-only, as in the API server of a cluster."""

import random
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.lake.read_only_mount import read_only
from tests.reports import test_distribution_page, test_gate_nights
from tests.reports.test_searches_page import RECORDS
from tests.reports.test_session_chart import bars_of

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import BAD_PRINT, FAILING_ROWS, QUARANTINE
from vpoc_ml.artifacts.studies import SearchSummary
from vpoc_ml.config import ProfileConfig
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.registry.ledger import CANDIDATE, PROMOTE, Ledger
from vpoc_ml.reports.pages.run import find_run, run_page
from vpoc_ml.reports.pages.table import PAGES
from vpoc_ml.reports.site import Download, Site

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_reports import simulate_night

NOW = datetime(2026, 5, 11, 22, 30, tzinfo=UTC)
RUN, CONTRACT, GATE = "vpoc_nightly--may", "ESH24", "bars"
FIELDS = {
    "/approvals/{run}": {"run": RUN},
    "/distributions/{run}": {"run": "night-1", "column": "rv_30"},
    "/gaps/ranges": {"contract": CONTRACT, "all": True},
    "/gates/{run}/{gate}": {"run": "night-00", "gate": GATE},
    "/gates/{run}/{gate}/check": {"run": "night-00", "gate": GATE, "column": "close", "check": "print"},
    "/gates/{run}/{gate}/rows": {"run": "night-00", "gate": GATE},
    "/models/{version}": {"version": 1},
    "/runs/{run}": {"run": RUN},
    "/searches/{run}": {"run": RUN},
    "/sessions/bars": {"contract": CONTRACT},
}
CHAMPION = "ES-1m-rank"
SHOWN = dict.fromkeys(("/", "/champion", "/models", "/models/{version}"), CHAMPION)
"""What the pages that read the ledger show."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """A lake with a night, its gates, a contract and a search; a registry with a champion. No test changes them."""
    root = tmp_path_factory.mktemp("mounts")
    lake, registry = Lake(root / "lake"), root / "registry"
    simulate_night(lake, RUN, NOW, random.Random(1), 3, 0, "waiting")
    row = {"ts": NOW, "session": NOW.date(), "contract": "ESM26", "column": "close", "check": "print", "value": 1.0}
    failing = pl.DataFrame({name: [row.get(name)] for name in FAILING_ROWS}, schema=FAILING_ROWS)
    kept = {layout.FAILING_ROWS: failing.with_columns(severity=pl.lit("critical").cast(FAILING_ROWS["severity"]))}
    test_gate_nights.store_night(lake.root, 0, {("ESM26", "close"): 5}, kept=kept)
    test_distribution_page.store_night(lake.root, 1, 4.0)
    bars, traded = bars_of(date(2024, 3, 5), [5000.0, 5000.25, 5001.0], [7, 1, 2]), instrument("ES")
    tables = {
        layout.BARS: bars,
        layout.SESSIONS: build_sessions(bars, traded, ProfileConfig()),
        layout.DEVELOPING: build_developing(bars, traded, ProfileConfig()),
        layout.QUARANTINE: pl.DataFrame({name: [None] for name in QUARANTINE}, schema=QUARANTINE).with_columns(
            reason=pl.lit(BAD_PRINT).cast(QUARANTINE["reason"])
        ),
    }
    for kind, frame in tables.items():
        lake.write_frame(layout.contract_key(kind, "ES", CONTRACT), frame, BuildKey({}, "", ""))
    summary = SearchSummary(
        space=("x",), seed=0, trials=5, finished=4, unstable=1, impossible=0, best=RECORDS[2], records=RECORDS
    )
    lake.write_json(layout.run_file(RUN, layout.SEARCH_RESULT), summary.to_json())
    for action in (CANDIDATE, PROMOTE):
        Ledger(registry / layout.LEDGER).append(action, version=1, key=CHAMPION, preset="p", now=NOW)
    return Site(lake, NOW + timedelta(days=1), registry=registry, gates=(GATE,))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_page_writes_neither_to_the_lake_nor_to_the_registry(site, page):
    query = page.query.model_validate(FIELDS.get(page.path, {}))
    with read_only(site.lake.root, site.registry):
        made = page.render(site, query)
    shown = made.content.decode() if isinstance(made, Download) else made
    assert SHOWN.get(page.path, "") in shown


def test_the_page_of_a_run_of_airflow_writes_nothing(site):
    with read_only(site.lake.root, site.registry):
        assert RUN in run_page(site, find_run(site.lake, "vpoc_nightly", "may"))


def test_a_lock_cannot_be_taken_on_a_read_only_mount(site):
    with read_only(site.lake.root, site.registry):
        with pytest.raises(OSError, match="Read-only file system"):
            Ledger(site.registry / layout.LEDGER).entries()
        with pytest.raises(OSError, match="Read-only file system"):
            (site.lake.root / "new").mkdir()
