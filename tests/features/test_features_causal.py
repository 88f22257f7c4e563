"""Features do not depend on later data: prefixes and perturbations, compared bit by bit."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .comparing import bits


def same(found: pl.DataFrame, expected: pl.DataFrame) -> bool:
    keys = ("ts", "contract", "session")
    return found.select(keys).equals(expected.select(keys)) and np.array_equal(bits(found), bits(expected))


@pytest.fixture(scope="module")
def complete(rough, compute) -> pl.DataFrame:
    return compute(*rough)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_features_of_a_prefix_are_the_prefix_of_the_features(data, rough, complete, compute):
    rows = data.draw(st.integers(1, complete.height))
    assert same(compute(rough.bars.head(rows), rough.vix), complete.head(rows))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_later_bars_and_later_vix_closes_change_no_earlier_row(data, rough, complete, compute):
    rows = data.draw(st.integers(1, complete.height - 1))
    shift = data.draw(st.sampled_from([-200.0, -0.25, 0.25, 300.0]))
    later = pl.int_range(pl.len()) >= rows
    prices = [pl.when(later).then(pl.col(n) + shift).otherwise(n).alias(n) for n in ("open", "high", "low", "close")]
    bars = rough.bars.with_columns(
        *prices,
        pl.when(later).then(pl.col("volume") * 3 + 1).otherwise("volume").alias("volume"),
        pl.when(later).then(pl.col("vix") + 1).otherwise("vix").alias("vix"),
    )
    cut = rough.bars["ts"][rows - 1]
    vix = rough.vix.with_columns(
        pl.when(pl.col("available_at") >= cut).then(pl.col("close") * 2).otherwise("close").alias("close")
    )
    changed = compute(bars, vix)
    assert same(changed.head(rows), complete.head(rows))
    assert not same(changed, complete)


def test_a_vix_close_published_as_the_bar_starts_is_not_yet_known(rough, compute):
    exact = rough.vix.with_columns(pl.lit(rough.bars["ts"][500]).alias("available_at")).head(6)
    found = compute(rough.bars, exact)["vix_chg_5d"].is_nan()
    assert found[500]
    assert not found[501]
    earlier = exact.with_columns(pl.col("available_at") - timedelta(microseconds=1))
    assert not compute(rough.bars, earlier)["vix_chg_5d"].is_nan()[500]


@pytest.mark.real
def test_features_of_a_real_prefix_are_the_prefix_of_the_features(real, compute):
    complete = compute(*real)
    for rows in (1, 400, 1_379, 20_011, 33_333, 50_000, complete.height - 1):
        assert same(compute(real.bars.head(rows), real.vix), complete.head(rows))
