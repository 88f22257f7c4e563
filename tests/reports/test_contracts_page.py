"""The page of contracts: states by hand, holes in the chain of delivery months, links."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import ROLLS
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.artifacts.stage_results import Plan
from vpoc_ml.artifacts.track_record import LabelledSession, LabelledSessions
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.reports.pages.contracts import ContractsQuery, contract_states, contracts_page, newest_planned_run
from vpoc_ml.reports.site import NoSuchPageError, Site

NOW = datetime(2024, 9, 1, tzinfo=UTC)
DAYS = [date(2024, 3, day) for day in (11, 12, 13, 14, 15)]


def build(lake: Lake, contract: str, *, stale: bool = False) -> None:
    """Write small artifacts of a contract; ``stale``: the bars are newer than what was made of them."""
    frame = pl.DataFrame({"session": DAYS})
    hashes: dict[str, str] = {}
    for kind in (layout.BARS, layout.SESSIONS, layout.DEVELOPING, layout.FEATURES):
        key = layout.contract_key(kind, "ES", contract)
        hashes[kind] = lake.write_frame(key, frame, BuildKey(dict(hashes), "", "")).sha256
    if stale:
        lake.write_frame(layout.contract_key(layout.BARS, "ES", contract), frame.tail(4), BuildKey({}, "", ""))


@pytest.fixture
def lake(tmp_path) -> Lake:
    """H24 is complete, M24 missing, U24 stale, Z24 only delivered."""
    made = Lake(tmp_path)
    build(made, "ESH24")
    build(made, "ESU24", stale=True)
    fronts = {"contract": ["ESH24", "ESU24"], "first_session": [DAYS[0], DAYS[2]], "last_session": [DAYS[1], DAYS[4]]}
    rolls = pl.DataFrame(fronts).select(
        pl.col(name).cast(dtype) if name in fronts else pl.lit(None, dtype).alias(name) for name, dtype in ROLLS.items()
    )
    made.write_frame(layout.roll_key("ES"), rolls, BuildKey({}, "", ""))
    sources = {code: (Source(path=Path(f"{code}.txt"), reader="x", contract=code),) for code in ("ESH24", "ESZ24")}
    plan = Plan(stage="plan", contracts=tuple(sources), sources=sources, raw="raw", vix=None)
    write_json(tmp_path / layout.stage_key("night-1", "plan"), plan.to_json())
    usable = LabelledSession(session=DAYS[4], contract="ESU24", rows=10, digest="")
    record = LabelledSessions(last=DAYS[4], sessions=(usable,))
    write_json(tmp_path / layout.run_file("night-1", layout.LABELLED_SESSIONS), record.to_json())
    return made


def test_each_contract_says_what_is_wrong(lake):
    assert newest_planned_run(lake) == "night-1"
    states = {state.code: state for state in contract_states(lake, "ES", "night-1")}
    assert list(states) == ["ESH24", "ESM24", "ESU24", "ESZ24"]
    cells = {code: (state.cell().tone, state.cell().label) for code, state in states.items()}
    assert cells["ESM24"] == ("bad", "not delivered")
    assert cells["ESU24"] == ("warning", "stale: sessions, developing, features")
    assert cells["ESZ24"] == ("bad", "delivered, without bars, sessions, developing, features")
    assert cells["ESH24"] == ("warning", "young: 0 of 2 sessions usable")
    assert (states["ESU24"].usable, states["ESU24"].front_sessions) == (1, 3)
    assert states["ESH24"].files == ("ESH24.txt",)


def test_without_a_run_only_the_artifacts_count(lake):
    states = {state.code: state for state in contract_states(lake, "ES", None)}
    assert list(states) == ["ESH24", "ESM24", "ESU24"]
    assert states["ESH24"].cell().label == "built; the newest run found no file of it"


def test_features_of_stale_sessions_are_stale_too(lake):
    sessions = layout.contract_key(layout.SESSIONS, "ES", "ESH24")
    lake.write_frame(sessions, pl.DataFrame({"session": DAYS[:3]}), BuildKey({"bars": "other"}, "", ""))
    states = {state.code: state for state in contract_states(lake, "ES", None)}
    assert dict(states["ESH24"].artifacts) == {
        "bars": "built",
        "sessions": "stale",
        "developing": "built",
        "features": "stale",
    }


def test_the_page_says_how_to_backfill_what_is_missing(lake):
    site = Site(lake, NOW, base="/air/vpoc-reports", path="/contracts")
    page = contracts_page(site, ContractsQuery())
    assert "make backfill FROM=2024-06-17 TO=2024-06-17" in page
    assert 'target="_top" href="/air/dags/vpoc_contracts"' in page
    assert 'href="/air/vpoc-reports/sessions?contract=ESU24"' in page
    assert "No contract has bars" in contracts_page(Site(Lake(lake.root / "empty"), NOW), ContractsQuery())
    with pytest.raises(NoSuchPageError, match="of ES; found NQ"):
        contracts_page(site, ContractsQuery(symbol="NQ"))


def test_an_object_store_shows_the_same_states(bucket):
    made = Lake(bucket)
    build(made, "ESH24")
    assert [state.cell().tone for state in contract_states(made, "ES", None)] == ["info"]
