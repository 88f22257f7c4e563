"""State that is reset and statistics that are fitted at the edges of chunks."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from vpoc_ml.leakage.degenerate import check_warmup
from vpoc_ml.leakage.invariance import check_chunks, check_prefix, cut_rows

from .planted_builders import SEED, caught, declared, over_bars, with_carry

SIZE = 1000


def vwap_12h(bars):
    typical = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
    value, volume = (typical * pl.col("volume")).rolling_sum(720), pl.col("volume").rolling_sum(720)
    return {"vwap_12h": (value / volume).fill_null(0)}


def volume_ratio(bars):
    return pl.col("volume") / pl.col("volume").rolling_mean(20)


def scaled_by_chunk(bars):
    ratio = volume_ratio(bars)
    iqr = ratio.quantile(0.75) - ratio.quantile(0.25)
    return {"volume_ratio": ((ratio - ratio.median()) / iqr).clip(-5, 5)}


def returns(bars):
    return np.nan_to_num(np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan))


def filtered_variance(change, alpha, beta, long_run):
    variance = np.full(change.size, long_run)
    for row in range(1, change.size):
        variance[row] = (1 - alpha - beta) * long_run + alpha * change[row - 1] ** 2 + beta * variance[row - 1]
    return variance


def garch_of_the_last_bars_of_a_chunk(bars):
    change = returns(bars)
    return {"garch_vol": pl.Series(np.sqrt(filtered_variance(change, 0.05, 0.9, change[-1000:].var())))}


def garch_constant(bars):
    return {"garch_vol": pl.lit(returns(bars).std()).repeat_by(1).list.first()}


def zscore(bars):
    traded = pl.when(pl.col("volume") > 0).then(pl.col("volume").log())
    return (traded - traded.rolling_mean(20, min_samples=5)) / traded.rolling_std(20, min_samples=5)


def test_known_leak_01_rolling_state_is_reset_at_each_chunk(steady):
    build = over_bars(vwap_12h)
    violations = check_chunks(build, steady, build(steady, None), (SIZE,))
    assert caught(violations, "vwap_12h", "chunks")
    assert violations[0].row == SIZE
    carried = with_carry(vwap_12h)
    assert check_chunks(carried, steady, carried(steady, None), (SIZE,)) == []


def test_known_leak_02_median_and_iqr_of_the_chunk_scale_its_own_earlier_rows(rough, steady):
    build = over_bars(scaled_by_chunk)
    features = build(rough, None)
    violations = check_prefix(build, rough, features, cut_rows(rough, 12, SEED))
    assert caught(violations, "volume_ratio", "prefix")
    assert caught(check_chunks(build, steady, build(steady, None), (SIZE,)), "volume_ratio", "chunks")
    correct = with_carry(lambda bars: {"volume_ratio": volume_ratio(bars)})
    assert check_prefix(correct, rough, correct(rough, None), cut_rows(rough, 12, SEED)) == []


@pytest.mark.parametrize("columns", [garch_of_the_last_bars_of_a_chunk, garch_constant])
def test_known_leak_13_garch_is_fitted_on_the_end_of_the_chunk_or_on_everything(rough, columns):
    build = over_bars(columns)
    assert caught(check_prefix(build, rough, build(rough, None), cut_rows(rough, 12, SEED)), "garch_vol", "prefix")


@pytest.mark.parametrize(
    "fill",
    [lambda values: values.fill_null(strategy="backward", limit=1), lambda values: values.fill_null(values.median())],
    ids=["bfill", "median of everything"],
)
def test_known_leak_14_a_gap_is_filled_from_later_rows(rough, fill):
    build = over_bars(lambda bars: {"volume_z": fill(zscore(bars))})
    assert caught(check_prefix(build, rough, build(rough, None), cut_rows(rough, 40, SEED)), "volume_z", "prefix")
    correct = over_bars(lambda bars: {"volume_z": zscore(bars)})
    assert check_prefix(correct, rough, correct(rough, None), cut_rows(rough, 40, SEED)) == []


def test_known_leak_14_a_cold_window_is_filled_with_zero(steady):
    registry = declared("mom_15m", "15 m", bars=15)

    def momentum(bars):
        return (pl.col("close") / pl.col("close").shift(15)).log()

    filled, correct = (
        with_carry(columns)
        for columns in (
            lambda bars: {"mom_15m": momentum(bars).fill_null(0)},
            lambda bars: {"mom_15m": momentum(bars)},
        )
    )
    assert caught(check_warmup(steady, filled(steady, None), registry), "mom_15m", "degenerate")
    assert check_warmup(steady, correct(steady, None).fill_null(float("nan")), registry) == []
