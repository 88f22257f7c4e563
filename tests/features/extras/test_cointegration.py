"""The pair's residual: line, alignment and continuous series by hand and against numpy's least squares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.extras.cointegration import as_known, continuous_closes, fit

START = datetime(2025, 1, 6, 15, 0, tzinfo=UTC)


def test_the_line_equals_least_squares_where_both_are_known():
    draw = np.random.default_rng(6)
    other = np.log(18_000 + np.cumsum(draw.normal(0, 5, 2000)))
    own = 1.3 + 0.7 * other + draw.normal(0, 1e-3, 2000)
    other[draw.random(2000) < 0.2] = np.nan
    line = fit(own, other)
    assert line is not None
    known = np.isfinite(other)
    hedge, intercept = np.polyfit(other[known] - 9.8, own[known], 1)
    assert line.hedge == pytest.approx(hedge, rel=1e-6)
    assert line.intercept == pytest.approx(intercept - 9.8 * hedge, rel=1e-6)
    residual = own[known] - line.intercept - line.hedge * other[known]
    assert line.spread == pytest.approx(np.sqrt(np.sum(residual**2) / (residual.size - 2)), rel=1e-6)
    assert line.hedge == pytest.approx(0.7, abs=0.02)


def test_degenerate_pairs_give_no_infinity_and_few_bars_no_line():
    own = np.log(np.linspace(5000, 5010, 300))
    flat = fit(own, np.full(300, 9.0))
    assert flat is not None
    assert flat.hedge == 0
    other = fit(own, own)
    assert other is not None
    assert other.hedge == pytest.approx(1)
    assert other.spread == 1e-5
    assert fit(own[:99], own[:99]) is None
    assert fit(own, np.full(300, np.nan)) is None


def test_a_bar_that_closes_at_the_same_time_is_used_and_a_later_one_is_not():
    found = as_known(np.array([10, 20, 30, 40]), np.array([20, 31]), np.array([7.0, 8.0]))
    np.testing.assert_array_equal(found, [np.nan, 7.0, 7.0, 8.0])
    assert np.isnan(as_known(np.array([10, 20]), np.empty(0, np.int64), np.empty(0))).all()


def test_later_contracts_are_scaled_to_the_first():
    def part(minutes: range, price: float) -> pl.DataFrame:
        return pl.DataFrame({"ts": [START + timedelta(minutes=m) for m in minutes], "close": [price] * len(minutes)})

    parts = [(part(range(2), 100.0), 9.0), (part(range(2, 4), 102.0), 1.02), (part(range(4, 5), 204.0), 2.0)]
    assert continuous_closes(parts)["close"].to_list() == pytest.approx([100.0] * 5)
    assert continuous_closes(parts[:2]).equals(continuous_closes(parts).head(4))


def test_the_residual_is_the_distance_from_the_line_of_the_sessions_before(thin, extras):
    names = ["coint_z_20d", "coint_hedge_20d"]
    found = extras(*thin, families=("cointegration",))
    days = thin.bars["session"].unique().sort()
    joined = thin.bars.join_asof(thin.pair.rename({"close": "other"}), on="ts")
    for at in (20, 55, 91):
        window = joined.filter(pl.col("session").is_between(days[at - 20], days[at - 1])).drop_nulls("other")
        now = joined.filter(pl.col("session") == days[at])
        left, right = (np.log(window[name].to_numpy()) for name in ("close", "other"))
        hedge, intercept = np.polyfit(right - 9.8, left, 1)
        residual = left - intercept - hedge * (right - 9.8)
        spread = np.sqrt(np.sum(residual**2) / (left.size - 2))
        z = (np.log(now["close"].to_numpy()) - intercept - hedge * (np.log(now["other"].to_numpy()) - 9.8)) / spread
        values = found.filter(pl.col("session") == days[at]).select(names).to_numpy()
        # closes in ticks move the intercept, not the residual
        np.testing.assert_allclose(values[:, 0], z, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(values[:, 1], hedge, rtol=1e-4)


def test_without_a_close_of_the_pair_there_is_no_value_and_no_error(thin, extras):
    late = thin.pair.filter(pl.col("ts") >= thin.bars["ts"][2000])
    found = extras(thin.bars, late, families=("cointegration",))
    assert found["coint_z_20d"].head(2000).is_nan().all()
    assert not found["coint_z_20d"].tail(100).is_nan().any()
    assert extras(thin.bars, thin.pair.clear(), families=("cointegration",))["coint_z_20d"].is_nan().all()


def test_closes_out_of_order_are_rejected(thin, extras):
    with pytest.raises(ArtifactError, match="sorted by ts"):
        extras(thin.bars, thin.pair.reverse(), families=("cointegration",))
