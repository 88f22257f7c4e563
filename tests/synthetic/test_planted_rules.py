"""The planted rules: their skill, what bounce adds, and markets that stay the same to the byte."""

from __future__ import annotations

import hashlib
from collections import deque
from datetime import date

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.synthetic.generate import write_market
from vpoc_ml.synthetic.planted_rules import LINEAR, OVERLAP, Mode, Planted, linear_drift, overlap_drift
from vpoc_ml.synthetic.price_path import simulate

DAYS = sessions(instrument("ES").calendar, date(2022, 1, 3), date(2022, 3, 1))
CHANGED = 20


def market(mode: Mode, seed: int, **options: float) -> pl.DataFrame:
    """Return the minutes of 40 sessions with the returns that follow each, and the linear score of their rule."""
    offsets = dict.fromkeys(DAYS["session"], 0)
    planted = Planted(mode, **options)
    minutes = pl.concat(block.minutes for block in simulate(DAYS, offsets, np.random.SeedSequence(seed), planted))
    close, opened = pl.col("close").cast(pl.Float64), pl.col("open").shift(-1)
    score = -close.log().diff(60) if mode == "overlap" else (close.rolling_mean(20) - close) / close.rolling_std(20)
    return minutes.with_columns(
        score=score,
        executable=(close.shift(-1) / opened).log().over("session"),
        close_to_close=(close.shift(-1) / close).log().over("session"),
        hour=(close.shift(-60) / opened).log().over("session"),
    ).filter(pl.col("score").is_finite())


def rank_ic(rows: pl.DataFrame, column: str) -> float:
    days = rows.drop_nulls(column).partition_by("session")
    return float(np.mean([spearmanr(day["score"], day[column]).statistic for day in days if day.height > 300]))


def mean_ic(mode: Mode, column: str, **options: float) -> float:
    return float(np.mean([rank_ic(market(mode, seed, **options), column) for seed in range(5)]))


@pytest.mark.slow
def test_linear_has_the_stated_skill_in_both_returns():
    assert 0.03 < mean_ic("linear", "executable") < 0.05
    assert 0.03 < mean_ic("linear", "close_to_close") < 0.05


@pytest.mark.slow
def test_overlap_has_more_skill_over_an_hour_than_over_a_minute():
    assert 0.05 < mean_ic("overlap", "hour") < 0.13
    assert 0.01 < mean_ic("overlap", "executable") < 0.03


@pytest.mark.slow
def test_drifting_reverses_its_sign_at_the_switch():
    last = DAYS["session"][CHANGED]
    parts = []
    for seed in range(5):
        rows = market("drifting", seed, switch=CHANGED)
        before = pl.col("session") < last
        parts.append([rank_ic(rows.filter(each), "executable") for each in (before, ~before)])
    before, after = np.mean(parts, axis=0)
    assert 0.03 < before < 0.05
    assert -0.05 < after < -0.03


@pytest.mark.slow
def test_martingale_has_no_linear_skill():
    assert abs(mean_ic("martingale", "executable")) < 0.01


@pytest.mark.slow
def test_bounce_is_skill_against_closes_that_no_order_can_reach():
    bouncing = {name: mean_ic("martingale", name, bounce=0.5) for name in ("close_to_close", "executable")}
    assert bouncing["close_to_close"] > 0.02
    assert abs(bouncing["executable"]) < 0.01


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
