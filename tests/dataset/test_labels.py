"""Labels: golden numbers, and no label over a gap, a session's end or a roll."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.config.choices import Horizon
from vpoc_ml.dataset.labels import label_bars


def bars_at(minutes: list[int], closes: list[float], sessions: list[date] | None = None) -> pl.DataFrame:
    start = datetime(2025, 1, 2, 15, 0, tzinfo=UTC)
    return pl.DataFrame(
        {
            "ts": pl.Series([start + timedelta(minutes=m) for m in minutes], dtype=pl.Datetime("us", "UTC")),
            "session": sessions or [date(2025, 1, 2)] * len(minutes),
            "open": [close - 0.25 for close in closes],
            "close": closes,
        }
    )


def test_label_golden_example_with_a_missing_minute():
    bars = bars_at([0, 1, 2, 4, 5], [100.0, 101.0, 100.0, 102.0, 102.0])
    labels = label_bars(bars, Horizon.of("2m"), "close", 0.1)
    nan = float("nan")
    np.testing.assert_allclose(labels["ret"], [0.0, nan, math.log(1.02), nan, nan])
    np.testing.assert_allclose(labels["exit_price"], [100.0, nan, 102.0, nan, nan])
    # the bar after minute 2 starts at minute 4, still inside the horizon; after minute 4 follows minute 5
    np.testing.assert_allclose(labels["entry_price"], [100.75, 99.75, 101.75, 101.75, nan])
    np.testing.assert_allclose(
        labels["last_ret"], [math.log(100 / 99.75), math.log(1.01), -math.log(1.01), math.log(1.02), 0.0]
    )
    assert (labels["label_end"] - labels["ts"]).unique().to_list() == [timedelta(minutes=2)]


def test_label_never_crosses_a_session_even_when_timestamps_adjoin():
    days = [date(2025, 1, 2)] * 2 + [date(2025, 1, 3)] * 2
    labels = label_bars(bars_at([0, 1, 2, 3], [100.0, 101.0, 150.0, 151.0], days), Horizon(), "close", 0.1)
    assert labels["ret"].is_finite().to_list() == [True, False, True, False]
    assert math.isnan(labels["entry_price"][1])
    assert labels["last_ret"][2] == pytest.approx(math.log(150 / 149.75)), "the gap is not a bar's return"


def test_label_is_clipped_and_unusable_prices_have_none():
    labels = label_bars(bars_at([0, 1, 2, 3], [100.0, 150.0, 0.0, 100.0]), Horizon(), "close", 0.1)
    assert labels["ret"][0] == 0.1
    assert math.isnan(labels["ret"][1])
    assert math.isnan(labels["ret"][2])


@settings(max_examples=60, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 80), min_size=1, max_size=40, unique=True).map(sorted),
    cut=st.integers(0, 80),
    horizon=st.integers(1, 30),
    seed=st.integers(0, 999),
)
def test_labels_equal_a_lookup_one_row_at_a_time(minutes, cut, horizon, seed):
    closes = (5000 + np.random.default_rng(seed).integers(-40, 40, len(minutes)) * 0.25).tolist()
    days = [date(2025, 1, 2) if minute < cut else date(2025, 1, 3) for minute in minutes]
    labels = label_bars(bars_at(minutes, closes, days), Horizon.of(horizon), "close", 0.1)
    for row, minute in enumerate(minutes):
        end = minutes.index(minute + horizon) if minute + horizon in minutes else None
        if end is None or days[end] != days[row]:
            assert math.isnan(labels["ret"][row])
            assert math.isnan(labels["exit_price"][row])
        else:
            assert labels["ret"][row] == pytest.approx(math.log(closes[end] / closes[row]), abs=1e-15)
