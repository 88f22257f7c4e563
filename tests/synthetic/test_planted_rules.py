"""The planted rules: their skill, what bounce adds, and markets that stay the same to the byte."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections import deque
from datetime import date
from functools import cache

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.build import build_features
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.synthetic import price_path
from vpoc_ml.synthetic.generate import LEAD, plan_market, write_market
from vpoc_ml.synthetic.planted_rules import (
    CHANGE_SCALE,
    LINEAR,
    MODES,
    OVERLAP,
    SLOPE,
    STRENGTH,
    THRESHOLD,
    Mode,
    Planted,
    linear_drift,
    overlap_drift,
)
from vpoc_ml.synthetic.price_path import MarketBlock, simulate

pytestmark = pytest.mark.slow

ES = instrument("ES")
DAYS = sessions(ES.calendar, date(2022, 1, 3), date(2022, 3, 1))
SEEDS = range(10)
CHANGED = 20


def blocks(mode: Mode, seed: int, days: pl.DataFrame = DAYS, **options: float) -> list[MarketBlock]:
    offsets = dict.fromkeys(days["session"], 0)
    return list(simulate(days, offsets, np.random.SeedSequence(seed), Planted(mode, **options)))


@cache
def rank_ics(mode: Mode, **options: float) -> dict[str, float]:
    """Return the mean over ten markets of 42 sessions of the rank IC over all rows, by score and return.

    The scores are the predictors of ``linear`` and ``overlap``, with their signs. ``reversed`` is the first against the
    executable return in the sessions from CHANGED on, ``linear executable`` in those before.
    """
    found: dict[str, list[float]] = {}
    switched = pl.col("session") >= DAYS["session"][CHANGED]
    for seed in SEEDS:
        minutes = pl.concat(block.minutes for block in blocks(mode, seed, **options))
        close, opened = pl.col("close").cast(pl.Float64), pl.col("open").shift(-1)
        rows = minutes.with_columns(
            linear=(close.rolling_mean(20) - close) / close.rolling_std(20),
            overlap=-close.log().diff(60),
            executable=(close.shift(-1) / opened).log().over("session"),
            close_to_close=(close.shift(-1) / close).log().over("session"),
            hour=(close.shift(-60) / opened).log().over("session"),
        ).filter(pl.col("linear").is_finite())
        cases = {
            "linear executable": rows.filter(~switched) if mode == "drifting" else rows,
            "linear close_to_close": rows,
            "overlap executable": rows,
            "overlap hour": rows,
            "reversed": rows.filter(switched),
        }
        for name, part in cases.items():
            score, realised = ("linear executable" if name == "reversed" else name).split(" ")
            both = part.select(score, realised).drop_nulls()
            found.setdefault(name, []).append(float(spearmanr(both[score], both[realised]).statistic))
    return {name: float(np.mean(each)) for name, each in found.items()}


@pytest.mark.slow
def test_linear_has_the_stated_skill_in_both_returns():
    found = rank_ics("linear")
    assert 0.03 < found["linear executable"] < 0.05
    assert 0.03 < found["linear close_to_close"] < 0.05


@pytest.mark.slow
def test_overlap_has_more_skill_over_an_hour_than_over_a_minute():
    found = rank_ics("overlap")
    assert 0.04 < found["overlap hour"] < 0.10
    assert 0.01 < found["overlap executable"] < 0.03


@pytest.mark.slow
def test_drifting_reverses_its_sign_at_the_switch():
    found = rank_ics("drifting", switch=CHANGED)
    assert 0.03 < found["linear executable"] < 0.05
    assert -0.05 < found["reversed"] < -0.03


@pytest.mark.slow
def test_martingale_has_no_linear_skill():
    found = rank_ics("martingale")
    assert abs(found.pop("overlap hour")) < 0.025  # 60 rows share an outcome: the standard error is 0.007
    assert all(abs(skill) < 0.006 for skill in found.values()), found


@pytest.mark.slow
def test_bounce_is_skill_against_closes_that_no_order_can_reach():
    found = rank_ics("martingale", bounce=0.5)
    assert found["linear close_to_close"] > 0.015
    assert abs(found["linear executable"]) < 0.006


PREDICTORS = {
    "signal": lambda rows: change_factor(rows) * volume_factor(rows),
    "linear": lambda rows: -LINEAR * rows["bb_z_20"],
    "overlap": lambda rows: -OVERLAP * rows["mom_60m"],
    "drifting": lambda rows: -LINEAR * rows["bb_z_20"] * (1 - 2 * rows["switched"].cast(pl.Int8)),
    "martingale": lambda rows: 0 * rows["bb_z_20"],
}
"""The drift of the next minute by features of the product, as the docstring of ``planted_rules`` states it."""


def change_factor(rows: pl.DataFrame) -> pl.Series:
    return STRENGTH * (rows["close_change_pct"] / CHANGE_SCALE).tanh()


def volume_factor(rows: pl.DataFrame) -> pl.Series:
    return (SLOPE * (rows["vol_ratio_30"].log() - THRESHOLD)).tanh()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_planted_predictor_is_the_feature_of_the_product(tmp_path, mode):
    """Of a written file: the rule on its closes equals its features, which give the side that the truth favours."""
    made = write_market(tmp_path, contracts=1, seed=4, mode=mode, switch=60)
    vix, config = read_vix(made.vix), ProfileConfig()
    bars = build_bars(made.files["ESH23"], parse_contract("ESH23"), ES, vix, IngestConfig()).bars
    features = build_features(bars, build_sessions(bars, ES, config), build_developing(bars, ES, config), vix, ES)
    features = features.with_columns(
        ticks=(bars["close"] / ES.tick_size).round().cast(pl.Int64),
        switched=pl.col("session") >= plan_market(1, LEAD).days[60],
    )
    features = features.with_columns(drift=PREDICTORS[mode](features))

    planted = Planted(mode, switch=60)
    for at in range(100, features.height, 997):
        row = features.row(at, named=True)
        closes = deque(features["ticks"][at - planted.closes + 1 : at + 1].to_list())
        factor = volume_factor(features[at : at + 1])[0] if mode == "signal" else planted.sign(60 * row["switched"])
        assert planted.rule(closes, 0, factor) == pytest.approx(row["drift"], rel=1e-4, abs=1e-7)

    truth = pl.read_parquet(made.truth).filter(pl.col("contract") == "ESH23")
    both = features.join(truth, on="ts").select(side=(pl.col("p_up") - 0.5).sign(), drift="drift")
    assert both.height > 90_000
    agreed = (both["side"] == both["drift"].sign()).mean()
    assert agreed > 0.999 if mode == "signal" else agreed == 1  # a contract's volumes are rounded


@pytest.mark.parametrize("mode", ["linear", "overlap", "drifting"])
def test_equal_seeds_give_equal_markets(mode):
    days = DAYS.head(6)
    first, again, other = (blocks(mode, seed, days, switch=3, bounce=0.3) for seed in (1, 1, 2))
    assert first[0].minutes.equals(again[0].minutes)
    assert first[0].vix.equals(again[0].vix)
    assert not first[0].minutes["close"].equals(other[0].minutes["close"])
    assert not first[0].minutes["p_up"].equals(other[0].minutes["p_up"])


@pytest.mark.parametrize("mode", MODES)
def test_memory_does_not_depend_on_the_length_of_the_market(monkeypatch, mode):
    """The peak of a later block is that of an early one; nothing of the blocks before is kept."""
    monkeypatch.setattr(price_path, "_BLOCK_SESSIONS", 4)
    market = simulate(DAYS, dict.fromkeys(DAYS["session"], 0), np.random.SeedSequence(1), Planted(mode, bounce=0.3))
    peaks = []
    tracemalloc.start()
    try:
        for _ in market:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert len(peaks) == 11
    assert max(peaks[2:10]) < 1.02 * peaks[1]


def test_linear_drift_by_hand():
    flat_then_up = deque([0] * 19 + [20])  # mean 1, standard deviation sqrt(20), score 19 / sqrt(20)
    assert linear_drift(flat_then_up, 0, 1.0) == pytest.approx(-LINEAR * 19 / np.sqrt(20))
    assert linear_drift(flat_then_up, 0, -1.0) == pytest.approx(LINEAR * 19 / np.sqrt(20))
    assert linear_drift(deque([5] * 20), 0, 1.0) == 0.0
    assert linear_drift(deque([5, 6]), 0, 1.0) == 0.0


def test_overlap_drift_by_hand():
    closes = deque([16_000] + [16_010] * 59 + [16_040])
    assert overlap_drift(closes, 160, 1.0) == pytest.approx(-OVERLAP * 1e4 * np.log(16_200 / 16_160))
    assert overlap_drift(deque([16_000] * 60), 0, 1.0) == 0.0


def test_a_factor_of_zero_plants_nothing():
    assert [Planted("martingale").sign(day) for day in (0, 300)] == [0.0, 0.0]
    assert [Planted("drifting").sign(day) for day in (0, 251, 252)] == [1.0, 1.0, -1.0]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"mode": "trend"}, "mode"),
        ({"switch": -1}, "switch"),
        ({"bounce": 1.5}, "bounce"),
        ({"bounce": -0.1}, "bounce"),
    ],
)
def test_impossible_options_are_rejected(options, name):
    with pytest.raises(InvalidValueError, match=name):
        Planted(**options)


@pytest.mark.parametrize(("mode", "digest"), [("signal", "18bf7bcd63ce5947"), ("martingale", "a175df55f63602ad")])
def test_files_of_the_first_modes_stay_the_same_to_the_byte(tmp_path, mode, digest):
    """The digests were made before there were other modes."""
    made = write_market(tmp_path, contracts=1, seed=3, mode=mode)
    files = [*made.files.values(), made.vix]
    assert hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16] == digest
