"""Features that differ from their names: other units, one bar off, late, or a raw price."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.leakage.degenerate import check_degenerate
from vpoc_ml.leakage.lookback import check_lookback

from .planted_builders import caught, declared, with_carry

CLOSE = pl.col("close")


def violations_of(columns, registry, market):
    build = with_carry(columns)
    return check_lookback(build, market, build(market, None), registry)


@pytest.mark.parametrize(("name", "days"), [("price_mom_1d", 1), ("price_mom_3d", 3), ("price_mom_5d", 5)])
def test_known_leak_06_days_are_bars(steady, name, days):
    wrong = {name: CLOSE.shift(1) / CLOSE.shift(days + 1) - 1}
    registry = declared(name, f"{days} d", sessions=days)
    assert caught(violations_of(lambda bars: wrong, registry, steady), name, "lookback")
    assert caught(violations_of(lambda bars: wrong, declared(name, f"{days} m", bars=days), steady), name, "lookback")


def test_known_leak_06_har_means_are_of_minutes_of_a_daily_constant(steady):
    def har(bars):
        square = (CLOSE / CLOSE.shift(1)).log() ** 2
        daily = bars.group_by("session", maintain_order=True).agg(rv=square.sum()).with_columns(pl.col("rv").shift(1))
        return {"har_5d": bars.join(daily, on="session", maintain_order="left")["rv"].rolling_mean(5)}

    assert caught(violations_of(har, declared("har_5d", "5 d", sessions=5), steady), "har_5d", "lookback")


def test_known_leak_06_days_that_are_sessions_pass(steady):
    def momentum(bars):
        closes = bars.group_by("session", maintain_order=True).agg(CLOSE.last()).with_columns(pl.col("close").shift(3))
        before = bars.select("session").join(closes, on="session", maintain_order="left")["close"]
        return {"price_mom_3d": bars["close"] / before - 1}

    assert violations_of(momentum, declared("price_mom_3d", "3 d", sessions=3), steady) == []


def test_known_leak_07_three_bars_are_four_and_end_one_bar_ago(steady):
    registry = declared("momentum_3m", "3 m", bars=3)
    wrong = {"momentum_3m": (CLOSE / CLOSE.shift(4) - 1).shift(1)}
    right = {"momentum_3m": CLOSE / CLOSE.shift(3) - 1}
    assert caught(violations_of(lambda bars: wrong, registry, steady), "momentum_3m", "lookback")
    assert violations_of(lambda bars: right, registry, steady) == []
    steps = pl.DataFrame({"close": [100.0, 110, 120, 130, 140, 150]})
    assert steps.select(**right)["momentum_3m"][5] == pytest.approx(150 / 120 - 1)
    assert steps.select(**wrong)["momentum_3m"][5] == pytest.approx(140 / 100 - 1)


def test_known_leak_18_some_features_are_lagged_and_some_are_not(steady):
    change = CLOSE.diff()
    columns = {
        "return_1m": (CLOSE / CLOSE.shift(1) - 1).shift(1),
        "range_5m": (CLOSE.rolling_max(5) / CLOSE.rolling_min(5) - 1),
        "up_share_14": (change > 0).cast(pl.Float64).rolling_mean(14),
    }
    registry = declared("return_1m", "1 m", bars=1) | declared("range_5m", "5 m", bars=4)
    violations = violations_of(lambda bars: columns, registry | declared("up_share_14", "14 m", bars=14), steady)
    assert [one.feature for one in violations] == ["return_1m"]
    assert "at the bar itself" in violations[0].expected


def vwap_12h(bars):
    typical = (pl.col("high") + pl.col("low") + CLOSE) / 3
    return (typical * pl.col("volume")).rolling_sum(720) / pl.col("volume").rolling_sum(720)


def test_known_leak_19_vwap_is_the_typical_price_or_rolls_across_sessions(steady, unpredictable, unpredictable_close):
    rolling = violations_of(lambda bars: {"vwap": CLOSE / vwap_12h(bars) - 1}, declared("vwap", "session"), steady)
    assert caught(rolling, "vwap", "lookback")

    def anchored(bars):
        value, volume = (each.cum_sum().over("session") for each in (CLOSE * pl.col("volume"), pl.col("volume")))
        return {"vwap": CLOSE / (value / volume) - 1}

    assert violations_of(anchored, declared("vwap", "session"), steady) == []
    for name, raw in (("vwap", (pl.col("high") + pl.col("low") + CLOSE) / 3), ("close", CLOSE)):
        frames = [market.bars.select("ts", "contract", "session", raw.alias(name)) for market in unpredictable]
        violations = check_degenerate(pl.concat(frames)[::29], unpredictable_close[::29])
        assert caught(violations, name, "degenerate")
        assert "raw price" in violations[0].expected


def test_a_name_that_contradicts_its_window_is_found_without_measuring(steady):
    correct = {"mom_15m": CLOSE / CLOSE.shift(10)}
    violations = violations_of(lambda bars: correct, declared("mom_15m", "10 m", bars=10), steady)
    assert [one.found for one in violations] == ["the window '10 m'"]


def test_a_lookback_of_two_sessions_differs_from_one_of_one(steady):
    def two_ago(bars):
        closes = bars.group_by("session", maintain_order=True).agg(CLOSE.last()).with_columns(pl.col("close").shift(2))
        return {"x": bars["close"] / bars.select("session").join(closes, on="session", maintain_order="left")["close"]}

    assert violations_of(two_ago, declared("x", "2 d", sessions=2), steady) == []
    assert caught(violations_of(two_ago, declared("x", "session"), steady), "x", "lookback")
