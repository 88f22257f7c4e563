"""Nodes, naked levels, composites, opening ranges and prints against slow, obvious versions of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.profile.naked_bars import naked_at_bars
from tests.profile.reference import Bar

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError, InvalidValueError
from vpoc_ml.profile.histogram import build_nodes, find_nodes, high_nodes_before
from vpoc_ml.profile.sessions import build_composites, build_prints, build_sessions, naked_levels, opening_ranges
from vpoc_ml.profile.tick_bars import SPREADS, tick_bars

CONFIG = ProfileConfig()


@pytest.fixture(scope="module")
def market(make_bars) -> pl.DataFrame:
    """Eight sessions of a walk that comes back, with jumps."""
    draw = np.random.default_rng(2)
    sessions = []
    for _ in range(8):
        close = 20_000 + np.cumsum(draw.integers(-12, 13, 60))
        low, high = close - draw.integers(0, 5, 60), close + draw.integers(0, 5, 60)
        sessions.append([Bar(*map(int, row)) for row in zip(low, high, close, draw.integers(1, 9, 60), strict=True)])
    return make_bars(*sessions)


# ---------------------------------------------------------------- nodes


def slow_nodes(units: list[int]) -> list[tuple[str, int]]:
    """Hills and valleys whose prominence is 15 % of the smoothed maximum, by walking."""
    padded = [0, 0, *units, 0, 0]
    smooth = [sum(w * x for w, x in zip((1, 2, 3, 2, 1), padded[at : at + 5], strict=True)) for at in range(len(units))]
    found = slow_hills([0, *smooth, 0], max(smooth), "hvn", 1)
    return sorted(found + slow_hills([-x for x in smooth], max(smooth), "lvn", 0), key=lambda node: node[1])


def slow_hills(heights: list[int], top: int, kind: str, offset: int) -> list[tuple[str, int]]:
    found = []
    for left in range(1, len(heights) - 1):
        right = left
        while right + 1 < len(heights) and heights[right + 1] == heights[left]:
            right += 1
        if right + 1 == len(heights) or not heights[left - 1] < heights[left] > heights[right + 1]:
            continue
        lower, upper = left - 1, right + 1
        while lower > 0 and heights[lower - 1] <= heights[left]:
            lower -= 1
        while upper < len(heights) - 1 and heights[upper + 1] <= heights[left]:
            upper += 1
        prominence = heights[left] - max(min(heights[lower:left]), min(heights[right + 1 : upper + 1]))
        if Fraction(prominence) >= Fraction(15, 100) * top:
            found.append((kind, (left + right) // 2 - offset))
    return found


@settings(max_examples=400, deadline=None)
@given(units=st.lists(st.sampled_from([0, 0, 1, 2, 3, 10, 11, 40]), min_size=1, max_size=40))
def test_nodes_equal_the_slow_reference(units):
    expected = slow_nodes(units) if any(units) else []
    assert [(node.kind, node.row) for node in find_nodes(np.array(units, np.int64))] == expected


@pytest.mark.parametrize("length", [1, 3])
def test_high_nodes_before_a_session_are_those_of_its_predecessors_bars(length, market, es):
    found = high_nodes_before(tick_bars(market, es), SPREADS["uniform"], length)
    days = market["session"].unique().sort().to_list()
    assert len(found) == len(days)
    assert not any(ticks.size for ticks in found[:length])
    for at in range(length, len(days)):
        nodes = build_nodes(market.filter(pl.col("session").is_in(days[at - length : at])), es, CONFIG)
        assert found[at].tolist() == (nodes.filter(kind="hvn")["price"] * 4).to_list()


def test_a_profile_without_volume_has_no_node(make_bars, es):
    bars = make_bars([Bar(100, 105, 105, 0)], [Bar(90, 90, 90, 1)])
    assert [ticks.tolist() for ticks in high_nodes_before(tick_bars(bars, es), SPREADS["uniform"], 1)] == [[], []]


def test_a_profile_of_two_hills_has_two_high_nodes_and_a_low_one_between(make_bars, es):
    volumes = [1, 3, 9, 3, 1, 0, 0, 1, 4, 12, 4, 1]
    bars = make_bars([Bar(100 + at, 100 + at, 100 + at, volume) for at, volume in enumerate(volumes)])
    nodes = build_nodes(bars, es, CONFIG)
    assert nodes.select("kind", pl.col("price") * 4, "volume").rows() == [
        ("hvn", 102, 9.0), ("lvn", 105, 0.0), ("hvn", 109, 12.0),
    ]  # fmt: skip
    # smoothed in ninths: 41 at 102, 8 at 105 (1 + 2*3*0 ...: 3*1 + 2*1 + 0 + 0 + 1*1 = 6), 54 at 109; the outside is 0
    assert (nodes["prominence"] * 9).round(6).to_list() == [41 - 6, 41 - 6, 54]


def test_no_bars_and_no_volume_have_no_nodes(make_bars, es):
    bars = make_bars([Bar(100, 110, 105, 0)])
    assert build_nodes(bars, es, CONFIG).is_empty()
    assert build_nodes(bars.head(0), es, CONFIG).schema == build_nodes(bars, es, CONFIG).schema


# ---------------------------------------------------------------- naked levels


def slow_naked(bars: list[dict], sessions: list[dict]) -> list[tuple]:
    """Every earlier session's VPOC that none of the bars since its session has touched, looked up at every bar."""
    order = {row["session"]: at for at, row in enumerate(sessions)}
    found = []
    for end, bar in enumerate(bars):
        at = order[bar["session"]]
        alive = [
            (row["vpoc"], at - order[row["session"]])
            for row in sessions[:at]
            if not any(
                later["low"] <= row["vpoc"] <= later["high"]
                for later in bars[: end + 1]
                if order[later["session"]] > order[row["session"]]
            )
        ]
        above = min(((v, age) for v, age in alive if v > bar["close"]), default=(None, None))
        below = max(((v, -age) for v, age in alive if v < bar["close"]), default=(None, None))
        found.append((len(alive), above[0], below[0], above[1], -below[1] if below[1] is not None else None))
    return found


def test_naked_levels_at_every_bar_equal_the_slow_reference(market, es):
    sessions = build_sessions(market, es, CONFIG)
    found = naked_at_bars(market, sessions, es)
    assert found.drop("ts").rows() == slow_naked(market.to_dicts(), sessions.to_dicts())
    assert found["count"].max() > 1


def test_naked_levels_at_a_bar_do_not_depend_on_later_bars(market, es):
    levels = naked_at_bars(market, build_sessions(market, es, CONFIG), es)
    for rows in (1, 59, 60, 61, 200, 333):
        part = market.head(rows)
        assert naked_at_bars(part, build_sessions(part, es, CONFIG), es).equals(levels.head(rows))


def test_naked_levels_after_the_last_bar(market, es):
    sessions = build_sessions(market, es, CONFIG)
    found = naked_levels(market, sessions, es)
    last = naked_at_bars(market, sessions, es).row(-1, named=True)
    assert found.row(-1) == (sessions["session"][-1], sessions["vpoc"][-1], 0)
    assert found.height == last["count"] + 1
    assert found["age"].is_sorted(descending=True)


def test_sessions_without_a_level_are_skipped_and_missing_sessions_are_rejected(market, es):
    days = market["session"].unique(maintain_order=True)
    half = market.with_columns((pl.col("session") != days[3]).alias("rth"))
    sessions = build_sessions(half, es, CONFIG)
    assert naked_at_bars(half, sessions, es, "rth_vpoc").columns[0] == "ts"
    assert days[3] not in naked_levels(half, sessions, es, "rth_vpoc")["session"].to_list()
    assert naked_levels(half.head(0), sessions, es).is_empty()
    assert naked_at_bars(half.head(0), sessions.head(0), es).is_empty()
    with pytest.raises(ArtifactError, match="one row for every session"):
        naked_levels(half, sessions.head(3), es)


# ---------------------------------------------------------------- composites


@pytest.mark.parametrize("length", [1, 3, 8])
def test_a_composite_equals_the_profile_of_its_joined_sessions(market, es, length):
    days = market["session"].unique(maintain_order=True)
    found = build_composites(market, es, CONFIG, length)
    assert found["session"].to_list() == days[length - 1 :].to_list()
    for row in found.iter_rows(named=True):
        inside = market.filter(pl.col("session").is_between(row["first_session"], row["session"]))
        assert inside["session"].n_unique() == length
        as_one = build_sessions(inside.with_columns(pl.lit(days[0]).alias("session")), es, CONFIG)
        names = ("vpoc", "vah", "val", "va_volume")
        assert tuple(row[name] for name in names) == as_one.select(names).row(0)


def test_composites_need_enough_sessions_of_one_contract(market, es):
    assert build_composites(market, es, CONFIG, 9).is_empty()
    assert build_composites(market.head(0), es, CONFIG, 2).schema == build_composites(market, es, CONFIG, 2).schema
    two = market.with_columns(pl.when(pl.int_range(pl.len()) < 200).then(pl.lit("ESH25")).otherwise(pl.lit("ESM25")))
    with pytest.raises(ArtifactError, match="2 contracts"):
        build_composites(two.with_columns(pl.col("literal").alias("contract")), es, CONFIG, 2)
    with pytest.raises(InvalidValueError, match="length"):
        build_composites(market, es, CONFIG, 0)


# ---------------------------------------------------------------- opening and prints


def test_the_opening_comes_from_the_calendar_and_not_from_the_first_bar(make_bars, es):
    # RTH opens at 14:30 UTC: the fixture's bars start half an hour into it
    bars = make_bars([Bar(100 + at, 101 + at, 100 + at, 1) for at in range(60)])
    early = bars.with_columns(pl.col("ts") - pl.duration(minutes=30))
    (row,) = opening_ranges(early, es).rows(named=True)
    assert (row["ib_low"] * 4, row["ib_high"] * 4, row["or_low"] * 4, row["or_high"] * 4) == (100, 160, 100, 110)
    (row,) = opening_ranges(bars, es).rows(named=True)
    assert (row["ib_low"] * 4, row["ib_high"] * 4, row["or_low"], row["or_high"]) == (100, 130, None, None)
    assert opening_ranges(bars.with_columns(rth=pl.lit(value=False)), es).is_empty()


def test_prints_of_sessions_are_the_prices_that_one_half_hour_visited(make_bars, es):
    # from 15:00 UTC two half hours: 100-104 with 103 left out, then 102-106
    first = [Bar(100, 102, 101, 1), Bar(104, 104, 104, 1)] + [Bar(102, 102, 102, 1)] * 28
    bars = make_bars(first + [Bar(102, 106, 103, 1)] * 30)
    found = build_prints(bars, es).with_columns(pl.col("low", "high") * 4)
    # 103 was visited once, between prices visited twice
    assert found.select("kind", "low", "high").rows() == [
        ("low_tail", 100, 101), ("single_print", 103, 103), ("high_tail", 105, 106),
    ]  # fmt: skip
    assert build_prints(bars.head(0), es).is_empty()
