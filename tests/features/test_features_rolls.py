"""Features across a roll: the predecessor's last sessions, ratio-adjusted, and no later data."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.features.build import build_features, build_in_chunks, in_warmup
from vpoc_ml.features.history import HISTORY_SESSIONS, Predecessor, required_history
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.histogram import build_nodes
from vpoc_ml.profile.sessions import build_sessions

from .comparing import PRICES, bits, predecessor_of

pytestmark = pytest.mark.slow

ROLL_AT = 26  # of 36 sessions


class Spliced(NamedTuple):
    """Bars of a contract that trades a while before it is front, and its predecessor."""

    bars: pl.DataFrame
    vix: pl.DataFrame
    predecessor: Predecessor
    unspliced: pl.DataFrame


def days(bars: pl.DataFrame) -> list[date]:
    return bars["session"].unique().sort().to_list()


def features(bars: pl.DataFrame, vix: pl.DataFrame, es, predecessor: Predecessor | None = None) -> pl.DataFrame:
    config = ProfileConfig()
    levels = build_sessions(bars, es, config), build_developing(bars, es, config)
    return build_features(bars, *levels, vix, es, predecessor)


@pytest.fixture(scope="module")
def rolled(rough, es) -> Spliced:
    """The contract holds all 36 sessions, other prices before it is front; the predecessor the 26 before the roll."""
    first = days(rough.bars)[ROLL_AT]
    thin = pl.col("session") < first
    bars = rough.bars.with_columns(
        *(pl.when(thin).then(pl.col(name) + 30).otherwise(name).alias(name) for name in PRICES),
        pl.when(thin).then(pl.col("volume") // 50).otherwise("volume").alias("volume"),
    )
    return Spliced(bars, rough.vix, predecessor_of(rough.bars, es, first, ratio=0.5), rough.bars)


@pytest.fixture(scope="module")
def complete(rolled, es) -> pl.DataFrame:
    return features(rolled.bars, rolled.vix, es, rolled.predecessor)


def test_rows_are_the_contracts_own_bars_and_nothing_else(rolled, complete):
    assert complete.select("ts", "contract", "session").equals(rolled.bars.select("ts", "contract", "session"))


def test_from_the_roll_on_the_features_equal_those_without_a_roll(rolled, complete, es):
    """A ratio of one half is exact, so the spliced rows equal those of the uncut series to the last bit."""
    uncut = features(rolled.unspliced, rolled.vix, es)
    front = pl.col("session") >= rolled.predecessor.first_session
    assert np.array_equal(bits(complete.filter(front)), bits(uncut.filter(front)))


def test_before_the_roll_a_row_uses_the_contracts_own_bars_only(rolled, complete, es):
    early = pl.col("session") < rolled.predecessor.first_session
    alone = features(rolled.bars.filter(early), rolled.vix, es)
    assert np.array_equal(bits(complete.filter(early)), bits(alone))


def test_no_row_after_the_roll_is_in_a_warm_up(rolled, complete):
    first = rolled.predecessor.first_session
    front = complete.filter(pl.col("session") >= first)
    untraded = rolled.bars.filter(pl.col("volume").cum_sum().over("session") == 0)  # no level before a first trade
    traded = front.join(untraded, on="ts", how="anti")
    assert 0 < traded.height < front.height
    assert not traded.select(pl.any_horizontal(pl.col(FEATURE_NAMES).is_nan().any())).item()
    declared = in_warmup(complete, FEATURE_NAMES, first)
    assert not declared.filter(complete["session"] >= first).any()
    before = complete["session"] < first
    assert declared.filter(before).equals(in_warmup(complete, FEATURE_NAMES).filter(before))
    starts_at_roll = front.with_columns(pl.lit("ESH25").alias("contract"))
    assert in_warmup(starts_at_roll, FEATURE_NAMES).any()
    assert not in_warmup(starts_at_roll, FEATURE_NAMES, first).any()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_prefix_gives_the_prefix_before_at_and_after_the_roll(data, rolled, complete, es):
    roll = complete.filter(pl.col("session") < rolled.predecessor.first_session).height
    rows = data.draw(st.one_of(st.integers(1, complete.height), st.integers(roll - 2, roll + 3)))
    found = features(rolled.bars.head(rows), rolled.vix, es, rolled.predecessor)
    assert np.array_equal(bits(found), bits(complete.head(rows)))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_later_bars_change_no_earlier_row(data, rolled, complete, es):
    rows = data.draw(st.integers(1, complete.height - 1))
    later = pl.int_range(pl.len()) >= rows
    changed = rolled.bars.with_columns(
        *(pl.when(later).then(pl.col(name) - 100).otherwise(name).alias(name) for name in PRICES),
        pl.when(later).then(pl.col("volume") * 7 + 1).otherwise("volume").alias("volume"),
    )
    found = features(changed, rolled.vix, es, rolled.predecessor)
    assert np.array_equal(bits(found.head(rows)), bits(complete.head(rows)))


def test_a_predecessor_changes_only_rows_of_the_front_period(rolled, complete, es):
    louder = replace(rolled.predecessor, ratio=rolled.predecessor.ratio * 1.001)
    found = features(rolled.bars, rolled.vix, es, louder)
    early = (pl.col("session") < rolled.predecessor.first_session).alias("early")
    assert np.array_equal(bits(found.filter(early)), bits(complete.filter(early)))
    assert not np.array_equal(bits(found.filter(~early)), bits(complete.filter(~early)))


def test_the_return_across_a_roll_is_adjusted(rough, es):
    """5000 before, 5050 after, nothing else moves: a raw return would be 100 basis points."""
    first = days(rough.bars)[ROLL_AT]

    def flat(frame: pl.DataFrame, price: float) -> pl.DataFrame:
        return frame.with_columns(pl.lit(price).alias(name) for name in PRICES)

    old = flat(rough.bars.filter(pl.col("session") < first), 5000.0)
    new = flat(rough.bars.filter(pl.col("session") >= first), 5050.0)
    found = features(new, rough.vix, es, replace(predecessor_of(old, es, first), ratio=1.01))
    for name in ("close_change_pct", "mom_15m", "mom_60m", "price_mom_3d", "price_mom_5d", "rv_30", "rv_390"):
        assert found[name].abs().max() < 1e-5, name
    for name in ("vpoc_prev_dist", "vpoc_migr_5d", "hvn_dist_5d", "gap_open"):
        assert found[name].abs().max() < 1e-5, name
    assert (found["naked_up"] == 5).all()
    raw = features(new, rough.vix, es, predecessor_of(old, es, first))
    assert raw["gap_open"][0] == pytest.approx(200)  # ticks, of an ATR of one
    assert raw["mom_15m"][0] == pytest.approx(1e4 * np.log(1.01), rel=1e-5)


def test_values_around_a_roll_by_hand(rolled, es):
    ratio, first = 1.0075, rolled.predecessor.first_session
    old = rolled.unspliced.filter(pl.col("session") < first)
    found = features(rolled.bars, rolled.vix, es, replace(predecessor_of(old, es, first), ratio=ratio))
    row = found.filter(pl.col("session") >= first).row(0, named=True)
    bar = rolled.bars.filter(pl.col("session") >= first).row(0, named=True)
    before = old["close"].to_numpy() * ratio
    assert row["close_change_pct"] == pytest.approx(100 * (bar["close"] / before[-1] - 1), rel=1e-5, abs=1e-6)
    assert row["mom_15m"] == pytest.approx(1e4 * np.log(bar["close"] / before[-15]), rel=1e-5, abs=1e-4)
    closes = np.append(before[-30:], bar["close"])
    assert row["rv_30"] == pytest.approx(100 * np.sqrt(1380 * np.mean(np.diff(np.log(closes)) ** 2)), rel=1e-6)
    volumes = np.append(old["volume"].to_numpy()[-29:], bar["volume"])
    assert row["vol_ratio_30"] == pytest.approx(bar["volume"] / volumes.mean(), rel=1e-6)
    daily = build_sessions(old, es, ProfileConfig())
    level = daily.row(-1, named=True)
    high, low, close = (daily[name].to_numpy() * ratio for name in ("high", "low", "close"))
    ranges = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    assert row["vpoc_prev_dist"] == pytest.approx(
        (bar["close"] - level["vpoc"] * ratio) / ranges[-14:].mean(), rel=1e-5
    )
    width = (level["vah"] - level["val"]) * ratio
    assert row["va_pos_prev"] == pytest.approx((bar["close"] - level["val"] * ratio) / width, rel=1e-5, abs=1e-6)
    assert row["price_mom_3d"] == pytest.approx(100 * np.log(bar["close"] / close[-3]), rel=1e-5)


@pytest.mark.parametrize("ratio", [1.0075, 0.9991, 1.0003, 0.99987])
def test_naked_levels_and_nodes_around_a_roll_by_hand(ratio, rolled, es):
    """Adjusted prices are not full ticks: they are rounded before levels are compared with bars."""
    front = pl.col("session") >= rolled.predecessor.first_session
    old, own = rolled.unspliced.filter(~front), rolled.bars.filter(front).head(80)
    history = replace(predecessor_of(old, es, rolled.predecessor.first_session), ratio=ratio)
    found = features(rolled.bars, rolled.vix, es, history).filter(front).head(80)
    moved = old.with_columns((pl.col(name) * 4 * ratio).round() / 4 for name in PRICES)
    daily = build_sessions(old, es, ProfileConfig())
    high, low, close = (daily[name].to_numpy() * ratio for name in ("high", "low", "close"))
    atr = (np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1]))[-14:].mean()
    levels = dict(zip(daily["session"], np.rint(4 * ratio * daily["vpoc"].to_numpy()) / 4, strict=True))
    recent = moved.filter(pl.col("session").is_in(daily["session"].tail(5).implode()))
    nodes = build_nodes(recent, es, ProfileConfig()).filter(kind="hvn")["price"]
    for at in range(0, 80, 9):
        past, now = pl.concat([moved, own.head(at + 1)]), own["close"][at]
        away = [level - now for day, level in list(levels.items())[-20:] if is_naked(level, day, past)]
        row = found.row(at, named=True)
        assert row["naked_up"] == pytest.approx(min([5, *(up / atr for up in away if up > 0)]), rel=1e-5)
        assert row["naked_dn"] == pytest.approx(min([5, *(-down / atr for down in away if down < 0)]), rel=1e-5)
        assert row["hvn_dist_5d"] == pytest.approx(min(now - nodes, key=abs) / atr, rel=1e-5)


def is_naked(level: float, born: date, past: pl.DataFrame) -> bool:
    """Whether no bar after its session holds the level between its low and its high."""
    return past.filter(pl.col("session") > born, pl.lit(level).is_between("low", "high")).is_empty()


def test_a_short_predecessor_is_continued_by_the_one_before_it(rolled, complete, es):
    """Two predecessors, each with half the history: their ratios chain."""
    first = rolled.predecessor.first_session
    middle = days(rolled.unspliced)[13]
    late = rolled.unspliced.filter(pl.col("session") >= middle)
    near = predecessor_of(late, es, first, "ESZ24", 0.5)
    far = replace(predecessor_of(rolled.unspliced, es, middle, "ESU24", 0.5 * 0.25), ratio=0.25)
    chained = replace(near, before=far)
    assert not near.covers(required_history())
    assert chained.covers(required_history())
    assert chained.session_count == ROLL_AT
    assert np.array_equal(bits(features(rolled.bars, rolled.vix, es, chained)), bits(complete))


def test_invalid_histories_are_rejected(rolled, es):
    good = rolled.predecessor
    short = replace(good, bars=good.bars.tail(required_history().bars - 1))
    few = replace(good, sessions=good.sessions.tail(required_history().sessions - 1))
    for history in (short, few):
        with pytest.raises(InsufficientSessionsError, match="history of ESH25"):
            features(rolled.bars, rolled.vix, es, history)
    own = replace(
        good,
        bars=good.bars.with_columns(pl.lit("ESH25").alias("contract")),
        sessions=good.sessions.with_columns(pl.lit("ESH25").alias("contract")),
    )
    late = replace(good, first_session=good.sessions["session"][-1])
    for history, message in (
        (own, "one other contract"),
        (late, "sessions before"),
        (replace(good, ratio=0.0), "above 0"),
        (replace(good, ratio=float("nan")), "above 0"),
        (replace(good, bars=good.bars.reverse()), "in order"),
    ):
        with pytest.raises(ArtifactError, match=message):
            features(rolled.bars, rolled.vix, es, history)


def test_the_history_is_longer_than_every_warm_up():
    assert required_history().sessions <= HISTORY_SESSIONS


@pytest.mark.real
def test_a_real_contract_cut_in_two_gives_the_features_of_the_full_contract(real, es):
    complete = features(*real, es)
    for at in (required_history().sessions, 35):
        first = days(real.bars)[at]
        own = real.bars.filter(pl.col("session") >= first)
        history = predecessor_of(real.bars, es, first)
        recent = history.sessions["session"].tail(HISTORY_SESSIONS)
        history = replace(
            history,
            bars=history.bars.filter(pl.col("session").is_in(recent.implode())),
            sessions=history.sessions.tail(HISTORY_SESSIONS),
        )
        found = features(own, real.vix, es, history)
        assert np.array_equal(bits(found), bits(complete.tail(own.height)))
        cut = own.height // 3
        assert np.array_equal(bits(features(own.head(cut), real.vix, es, history)), bits(found.head(cut)))


@pytest.mark.parametrize("ratio", [0.5, 1.0075])
@pytest.mark.parametrize(("rows", "skip"), [(5, 60), (211, 0), (10_000, 0)])
def test_chunks_across_the_roll_give_the_features_of_all_bars(rows, skip, ratio, rolled, es):
    """At 1.0075 prices of the past are fractions of ticks: a sum that runs over them would tell where it began."""
    predecessor = replace(rolled.predecessor, ratio=ratio)
    complete = features(rolled.bars, rolled.vix, es, predecessor)
    front = complete.filter(pl.col("session") < predecessor.first_session).height
    begin = front - skip if skip else 0
    bars = rolled.bars.head(front + 200) if skip else rolled.bars
    chunks = build_in_chunks(bars, rolled.vix, es, predecessor, rows=rows, skip=begin)
    assert np.array_equal(bits(pl.concat(chunks)), bits(complete[begin : bars.height]))
