"""Contracts of a few sessions pass the gates with correct data; checks that need more get a remark, not a failure."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import DatasetConfig, ProfileConfig, QualityThresholds
from vpoc_ml.features.build import build_features
from vpoc_ml.features.history import Predecessor
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.ingest.vix.vix_closes import available_at, join_vix
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.quality.gates import validate_features
from vpoc_ml.quality.rules import features_gate, training_set_gate
from vpoc_ml.reports.gate_pages import write_gates_page

ES, PROFILE = instrument("ES"), ProfileConfig()
TABLE = sessions(ES.calendar, date(2025, 3, 17), date(2025, 6, 13))
DAYS: list[date] = TABLE["session"].to_list()
SEED = 23


def walk(count: int, every: int = 1, code: str = "ESM25") -> pl.DataFrame:
    """Return ``count`` sessions of a random walk, a bar in every ``every``-th of 400 minutes around the open of RTH."""
    draw = np.random.default_rng(SEED)
    parts, close = [], 22_000
    for row in TABLE.head(count).iter_rows(named=True):
        start = (row["rth_open"] or row["open"]) - timedelta(minutes=200)
        timestamps = [start + timedelta(minutes=minute) for minute in range(0, 400, every)]
        closes = close + np.cumsum(draw.integers(-4, 5, len(timestamps)))
        wide = draw.integers(0, 4, (2, len(timestamps))) if every == 1 else np.zeros((2, len(timestamps)), np.int64)
        columns = {"open": closes, "high": closes + wide[0], "low": closes - wide[1], "close": closes}
        parts.append(
            pl.DataFrame({"ts": pl.Series(timestamps, dtype=pl.Datetime("us", "UTC"))}).with_columns(
                pl.lit(code).alias("contract"),
                pl.lit(row["session"]).alias("session"),
                (pl.col("ts") >= row["rth_open"]).alias("rth"),
                *(pl.Series(name, 0.25 * ticks) for name, ticks in columns.items()),
                pl.Series("volume", draw.integers(1, 400, len(timestamps)) if every == 1 else [1] * len(timestamps)),
            )
        )
        close = int(closes[-1])
    return join_vix(pl.concat(parts), VIX)


def closes_of_the_vix() -> pl.DataFrame:
    days = pl.DataFrame({"date": pl.date_range(date(2025, 2, 24), date(2025, 6, 20), eager=True)})
    days = days.filter(pl.col("date").dt.weekday() <= 5)
    draw = np.random.default_rng(SEED)
    return days.with_columns(
        pl.Series("close", 15 + draw.random(days.height) * 10), available_at("date").alias("available_at")
    )


VIX = closes_of_the_vix()


def features_of(bars: pl.DataFrame, predecessor: Predecessor | None = None) -> pl.DataFrame:
    levels = build_sessions(bars, ES, PROFILE), build_developing(bars, ES, PROFILE)
    return build_features(bars, *levels, VIX, ES, predecessor)


def answers(folder: Path, bars: pl.DataFrame, features: pl.DataFrame) -> tuple[list[tuple[str, str]], str]:
    """Return the critical checks that the gate's measurements break, and the note on a young contract."""
    bars.write_parquet(folder / "bars.parquet")
    features.write_parquet(folder / "features.parquet")
    code = bars["contract"][0]
    profile = features_gate.measure(folder / "features.parquet", code, folder / "bars.parquet", REGISTRY)
    counted = {(each.column, each.check): each for each in profile.measurements}
    broken = [
        (check.column, check.name)
        for check in features_gate.checks(REGISTRY, QualityThresholds())
        for each in [counted[check.column, check.name]]
        if check.error_if and check.error_if.breached(each.count, each.share)
    ]
    return broken, counted["*", "young"].note


@pytest.mark.parametrize("count", [*range(1, 26), 40, 60])
def test_a_new_instrument_passes_at_every_length(tmp_path, count):
    bars = walk(count)
    broken, note = answers(tmp_path, bars, features_of(bars))
    assert not broken
    assert bool(note) == (count < 24), note
    if count <= 22:
        assert f"har_m: needs 22 sessions before, has {count} in all" in note.replace(", har_m", "; har_m")


@pytest.mark.parametrize("count", [1, 2, 5, 12, 25])
def test_a_deferred_contract_with_a_few_single_prints_passes(tmp_path, count):
    bars = walk(count, every=67)
    assert bars.height == 6 * count
    broken, note = answers(tmp_path, bars, features_of(bars))
    assert not broken
    assert ("dow" in note) == (count == 1)
    assert re.search(r"close_loc[a-z0-9_, ]*: needs 60 bars in 1 traded session, has 0 in 0", note)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_first_sessions_after_a_roll_pass(tmp_path, count):
    old = walk(30, code="ESH25")
    first = DAYS[30]
    past = Predecessor(old, build_sessions(old, ES, PROFILE), 1.001, first)
    bars = walk(30 + count).filter(pl.col("session") >= first)
    broken, note = answers(tmp_path, bars, features_of(bars, past))
    assert not broken
    assert ("dow" in note) == (count == 1)


def test_columns_that_vary_by_bar_are_checked_from_the_first_session(tmp_path):
    bars = walk(1)
    dead = features_of(bars).with_columns(pl.lit(0.5, pl.Float32).alias("close_loc"))
    assert answers(tmp_path, bars, dead)[0] == [("close_loc", "constant")]


@pytest.mark.parametrize(("count", "broken"), [(5, []), (10, [("dow", "constant"), ("vix_lag1", "constant")])])
def test_columns_that_vary_by_session_are_checked_from_the_fifth_traded_session(tmp_path, count, broken):
    bars = walk(count)
    features = features_of(bars).with_columns(pl.lit(0.5, pl.Float32).alias(name) for name in ("dow", "vix_lag1"))
    few = features.filter(pl.col("session") < DAYS[4]) if count == 5 else features
    kept = bars.filter(pl.col("session") < DAYS[4]) if count == 5 else bars
    found, _ = answers(tmp_path, kept, few)
    assert sorted(found) == broken


def test_a_column_without_a_value_after_its_warm_up_fails_in_a_young_contract_too(tmp_path):
    bars = walk(4)
    dead = features_of(bars).with_columns(pl.lit(float("nan"), pl.Float32).alias("rv_30"))
    assert set(answers(tmp_path, bars, dead)[0]) == {("rv_30", "empty"), ("rv_30", "late")}


@pytest.mark.parametrize("value", [0.0, 70.0])
def test_a_contract_far_from_its_roll_or_past_it_may_rest_at_the_bound(tmp_path, value):
    bars = walk(12)
    rests = features_of(bars).with_columns(pl.lit(value, pl.Float32).alias("days_to_roll"))
    broken, note = answers(tmp_path, bars, rests)
    assert not broken
    assert "days_to_roll" not in note


def test_the_verdict_and_the_page_name_a_young_contract(tmp_path, world):
    bars = walk(1)
    for name, frame in (("bars", bars), ("features", features_of(bars))):
        frame.write_parquet(tmp_path / f"{name}.parquet")
    verdict = validate_features(
        {"ESM25": tmp_path / "features.parquet"},
        bars={"ESM25": tmp_path / "bars.parquet"},
        run="night",
        reports_dir=tmp_path / "reports",
        now=world.now,
    )
    assert verdict.passed, verdict.message()
    assert verdict.is_young("ESM25")
    remark = next(each for each in verdict.failures if each.check == "young")
    assert remark.severity == "info"
    assert "dow" in remark.note
    assert "needs 60 bars in 5 traded sessions, has 400 in 1" in remark.note
    page = write_gates_page(tmp_path / "reports", "night", ["features"]).read_text()
    assert "<small>young</small>" in page
    assert "needs 60 bars in 5 traded sessions" in page


def test_a_training_set_may_hold_a_few_rows_of_a_contract_that_just_became_front(tmp_path, world):
    rows = world.training.tail(3).with_columns(
        contract=pl.lit("ESM25"), ts=pl.col("ts") + pl.duration(hours=6), y=pl.lit(0.5, pl.Float32)
    )
    path = tmp_path / "set.parquet"
    pl.concat([world.training, rows]).write_parquet(path)
    names = list(world.registry)
    contracts, profiles = training_set_gate.measure(path, names, world.calendar, DatasetConfig())
    assert contracts == ["ESH25", "ESM25"]
    counted = {(each.column, each.check): each for each in profiles[2].measurements}
    assert counted["y", "constant"].count == 0
    assert "y: needs 60 bars in 1 traded session" in counted["*", "young"].note
    assert {each.column for each in profiles[1].measurements if each.check == "young" and each.count} == set()


def test_a_mature_contract_in_a_training_set_must_vary(tmp_path, world):
    path = tmp_path / "set.parquet"
    world.training.with_columns(y=pl.lit(0.5, pl.Float32)).write_parquet(path)
    profiles = training_set_gate.measure(path, list(world.registry), world.calendar, DatasetConfig())[1]
    assert {each.column for each in profiles[1].measurements if each.check == "constant" and each.count} == {"y"}
