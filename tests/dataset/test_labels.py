"""Labels: golden numbers, no label over a gap or a session's end, and adjusted prices across a roll."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.config.choices import Horizon
from vpoc_ml.dataset.labels import label_bars, label_uniqueness, session_exits


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


def test_executable_label_begins_at_the_next_open():
    bars = bars_at([0, 1, 2, 4, 5], [100.0, 101.0, 100.0, 102.0, 102.0])
    labels = label_bars(bars, Horizon.of("2m"), "next_open", 0.1)
    nan = float("nan")
    # after minute 2 the next bar starts at minute 4, the exit bar: its open 101.75 to its close 102
    np.testing.assert_allclose(labels["ret"], [math.log(100 / 100.75), nan, math.log(102 / 101.75), nan, nan])
    np.testing.assert_allclose(labels["ret_close"], [0.0, nan, math.log(1.02), nan, nan])
    one = label_bars(bars, Horizon(), "next_open", 0.1)
    np.testing.assert_allclose(
        one["ret"], [math.log(101 / 100.75), math.log(100 / 99.75), nan, math.log(102 / 101.75), nan]
    )


def test_label_to_the_close_ends_with_the_session():
    days = [date(2025, 1, 2)] * 3 + [date(2025, 1, 3)] * 2
    bars = bars_at([0, 1, 5, 6, 7], [100.0, 101.0, 104.0, 150.0, 151.0], days)
    labels = label_bars(bars, Horizon.of("close"), "next_open", 0.1)
    nan = float("nan")
    expected = [math.log(104 / 100.75), math.log(104 / 103.75), nan, math.log(151 / 150.75), nan]
    np.testing.assert_allclose(labels["ret"], expected)
    assert labels["label_end"].to_list() == [bars["ts"][2]] * 3 + [bars["ts"][4]] * 2


def test_label_over_sessions_uses_adjusted_prices_across_a_roll():
    days = [date(2025, 1, day) for day in (2, 3, 6, 7)]
    noon = [datetime(2025, 1, day, 18, tzinfo=UTC) for day in (2, 3, 6, 7)]
    closes = pl.DataFrame(
        {"contract": ["A", "A", "B", "B"], "session": days, "ts": noon, "close": [100.0, 110.0, 242.0, 220.0]}
    )
    exits = session_exits(closes, {"A": None, "B": 2.0}, count=1)
    assert exits["A"].rows() == [(days[0], noon[1], 110.0), (days[1], noon[2], 121.0)], "242 of B are 121 of A"
    assert exits["B"].rows() == [(days[2], noon[3], 220.0)]
    unknown = session_exits(closes, {"A": None, "B": None}, count=1)
    assert unknown["A"].rows() == [(days[0], noon[1], 110.0)], "no exit across a roll without a ratio"
    assert session_exits(closes, {"A": None, "B": 2.0}, count=2)["A"]["exit_price"].to_list() == [121.0, 110.0]


def test_label_over_sessions_joins_the_exit_of_the_session():
    days = [date(2025, 1, 2)] * 2 + [date(2025, 1, 3)] * 2
    bars = bars_at([0, 1, 1380, 1381], [100.0, 101.0, 103.0, 104.0], days)
    exits = pl.DataFrame({"session": [days[0]], "label_end": [bars["ts"][3]], "exit_price": [104.0]})
    labels = label_bars(bars, Horizon.of("1s"), "next_open", 0.1, exits)
    nan = float("nan")
    np.testing.assert_allclose(labels["ret"], [math.log(104 / 100.75), nan, nan, nan])
    assert labels["label_end"][0] == bars["ts"][3]
    assert (labels["label_end"][2:] >= bars["ts"][2:] + timedelta(days=1)).all(), "set without an exit too"


def test_uniqueness_by_hand_and_by_a_loop():
    # three labels over bars 0-1, 1-2, 2-2: alive 1, 2, 2
    np.testing.assert_allclose(label_uniqueness(np.array([0, 1, 2]), np.array([1, 2, 2]), 4), [0.75, 0.5, 0.5])
    rng = np.random.default_rng(5)
    starts = np.sort(rng.integers(0, 50, 40))
    ends = np.minimum(starts + rng.integers(0, 9, 40), 59)
    alive = [sum(a <= bar <= b for a, b in zip(starts, ends, strict=True)) for bar in range(60)]
    slow = [np.mean([1 / alive[bar] for bar in range(a, b + 1)]) for a, b in zip(starts, ends, strict=True)]
    np.testing.assert_allclose(label_uniqueness(starts, ends, 60), slow)


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
    labels, executable = (
        label_bars(bars_at(minutes, closes, days), Horizon.of(horizon), rule, 0.1) for rule in ("close", "next_open")
    )
    for row, minute in enumerate(minutes):
        end = minutes.index(minute + horizon) if minute + horizon in minutes else None
        if end is None or days[end] != days[row]:
            assert math.isnan(labels["ret"][row])
            assert math.isnan(labels["exit_price"][row])
        else:
            assert labels["ret"][row] == pytest.approx(math.log(closes[end] / closes[row]), abs=1e-15)
            assert executable["ret"][row] == pytest.approx(math.log(closes[end] / (closes[row + 1] - 0.25)), abs=1e-15)
