"""Ingestion finds exactly the planted faults at their listed lines."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.synthetic.generate import SyntheticMarket, write_market
from vpoc_ml.synthetic.planted_faults import FAULT_KINDS, check_kinds, plant_faults

pytestmark = pytest.mark.slow

ES = instrument("ES")
CODES = ("ESH23", "ESM23")
ROWS = tuple(
    kind for kind in FAULT_KINDS if kind not in ("out-of-order", "missing-hour", "missing-session", "truncated")
)


def built(market: SyntheticMarket, code: str) -> BuiltBars:
    return build_bars(market.files[code], parse_contract(code), ES, read_vix(market.vix), IngestConfig())


def answers(market: SyntheticMarket, code: str) -> list[dict[str, object]]:
    assert market.faults is not None
    return [answer for answer in json.loads(market.faults.read_text()) if answer["contract"] == code]


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> SyntheticMarket:
    return write_market(tmp_path_factory.mktemp("sound"), contracts=2)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> SyntheticMarket:
    kinds = [kind for kind in FAULT_KINDS if kind != "truncated"]
    return write_market(tmp_path_factory.mktemp("faulty"), contracts=2, faults=kinds)


@pytest.mark.parametrize("code", CODES)
def test_quarantine_holds_exactly_the_planted_rows(faulty: SyntheticMarket, code: str) -> None:
    expected = {(a["line"], a["reason"]) for a in answers(faulty, code) if a["effect"] == "quarantine"}
    found = built(faulty, code).quarantine.select("line", "reason").rows()
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected


@pytest.mark.parametrize("code", CODES)
def test_every_kind_is_planted_three_times_and_holes_once(faulty: SyntheticMarket, code: str) -> None:
    counts = Counter(str(answer["kind"]) for answer in answers(faulty, code))
    once = {"missing-hour": 1, "missing-session": 1}
    assert counts == {**dict.fromkeys((*ROWS, "out-of-order"), 3), **once}


@pytest.mark.parametrize("code", CODES)
def test_the_rest_of_the_market_is_untouched(undamaged: SyntheticMarket, faulty: SyntheticMarket, code: str) -> None:
    whole, kept = built(undamaged, code).bars, built(faulty, code)
    lost = whole.join(kept.bars, on="ts", how="anti")
    holes = [answer for answer in answers(faulty, code) if answer["effect"] == "hole"]
    spans = [(datetime.fromisoformat(str(a["first"])), datetime.fromisoformat(str(a["last"]))) for a in holes]
    in_hole = pl.any_horizontal(pl.col("ts").is_between(*span) for span in spans)
    assert lost.filter(in_hole).height == sum(int(str(answer["bars"])) for answer in holes)
    spoilt = [a for a in answers(faulty, code) if a["effect"] == "quarantine"]
    replaced = [a for a in spoilt if a["kind"] not in ("duplicate", "conflicting-duplicate")]
    replaced = [a for a in replaced if a["kind"] not in ("weekend-bar", "maintenance-bar")]
    assert lost.filter(~in_hole).height == len(replaced)
    assert whole.join(kept.bars, on="ts", how="semi").equals(kept.bars)
    assert any("3 rows were out of order" in note for note in kept.notes)


@pytest.mark.parametrize("code", CODES)
def test_a_missing_hour_is_one_of_rth_and_a_missing_session_a_whole_one(
    undamaged: SyntheticMarket, faulty: SyntheticMarket, code: str
) -> None:
    holes = {a["kind"]: a for a in answers(faulty, code) if a["effect"] == "hole"}
    whole, kept = built(undamaged, code).bars, built(faulty, code).bars
    gone = whole.filter(~pl.col("session").is_in(kept["session"].unique().to_list()))
    assert gone["session"].n_unique() == 1
    assert gone.height == holes["missing-session"]["bars"]
    first, last = (datetime.fromisoformat(str(holes["missing-hour"][end])) for end in ("first", "last"))
    hour = whole.filter(pl.col("ts").is_between(first, last))
    assert hour["rth"].all()
    assert 50 < hour.height <= 60


def test_strays_lie_on_a_saturday_and_in_the_maintenance_hour(faulty: SyntheticMarket) -> None:
    quarantine = built(faulty, "ESM23").quarantine
    kinds = {a["line"]: a["kind"] for a in answers(faulty, "ESM23")}
    for line, ts in quarantine.filter(pl.col("reason") == "outside exchange hours").select("line", "ts").iter_rows():
        assert (ts.weekday() == 5) == (kinds[line] == "weekend-bar")


def test_a_truncated_file_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    market = write_market(tmp_path, contracts=2, faults=["truncated"])
    assert built(market, "ESH23").quarantine.is_empty()
    (answer,) = answers(market, "ESM23")
    assert answers(market, "ESH23") == []
    with pytest.raises(UnreadableFileError) as refused:
        built(market, "ESM23")
    assert f"line {answer['line']}" in str(refused.value)


def test_faults_leave_vix_and_truth_unchanged(undamaged: SyntheticMarket, faulty: SyntheticMarket) -> None:
    assert undamaged.faults is None
    assert faulty.vix.read_bytes() == undamaged.vix.read_bytes()
    assert faulty.truth.read_bytes() == undamaged.truth.read_bytes()


def test_kinds_are_checked() -> None:
    assert check_kinds(["nan", "duplicate", "nan"]) == ("nan", "duplicate")
    with pytest.raises(InvalidValueError, match="conflicting-duplicate"):
        check_kinds(["duplicates"])


def test_a_short_file_gets_only_the_faults_that_fit() -> None:
    begin = datetime(2023, 1, 2, 15, tzinfo=UTC)
    timestamps = [begin + timedelta(days=day, minutes=minute) for day in range(5) for minute in range(20)]
    rows = pl.DataFrame({"ts": timestamps, "session": [timestamp.date() for timestamp in timestamps]})
    lines = [f"{timestamp:%Y%m%d %H%M%S};1;1;1;1;5" for timestamp in timestamps]
    damaged, planted = plant_faults(lines, rows, ("weekend-bar", "nan"), "file", "ESH23", np.random.default_rng(1))
    assert [answer.kind for answer in planted] == ["nan", "nan"]
    assert len(damaged) == len(lines)
