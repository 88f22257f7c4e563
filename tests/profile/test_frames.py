"""Sessions, developing levels, histogram and naked levels as frames."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from tests.profile import reference
from tests.profile.reference import Bar

from vpoc_ml.artifacts.schemas import DEVELOPING, OPENING, SESSIONS
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.histogram import volume_profile
from vpoc_ml.profile.sessions import COLUMNS, build_sessions
from vpoc_ml.profile.tick_bars import SPREADS, profile_rule

CONFIG = ProfileConfig()


@pytest.fixture(scope="module")
def market(make_bars) -> pl.DataFrame:
    """Five sessions of a seeded walk."""
    draw = np.random.default_rng(3)
    sessions = []
    for _ in range(5):
        close = 20_000 + np.cumsum(draw.integers(-4, 5, 90))
        low, high = close - draw.integers(0, 20, 90), close + draw.integers(0, 20, 90)
        sessions.append([Bar(*map(int, row)) for row in zip(low, high, close, draw.integers(0, 500, 90), strict=True)])
    return make_bars(*sessions)


def variant_columns(prefix: str) -> list[str]:
    return [f"{prefix}_{name}" for name in COLUMNS]


def test_sessions_have_prices_levels_and_variants_of_rth_and_the_night(market, es):
    half = market.with_columns((pl.int_range(pl.len()).over("session") >= 45).alias("rth"))
    sessions = build_sessions(half, es, CONFIG)
    assert sessions.columns == [
        "contract", "session", *COLUMNS, *variant_columns("rth"), *OPENING, *variant_columns("overnight"),
    ]  # fmt: skip
    assert sessions.schema == SESSIONS
    assert build_developing(half, es, CONFIG).schema == DEVELOPING
    assert sessions["bars"].to_list() == [90] * 5
    assert sessions["rth_bars"].to_list() == [45] * 5
    rth = build_sessions(half.filter("rth"), es, CONFIG)
    variant = sessions.select("contract", "session", *(pl.col(f"rth_{name}").alias(name) for name in COLUMNS))
    assert variant.equals(rth.select("contract", "session", *COLUMNS))
    night = build_sessions(half.filter(~pl.col("rth")), es, CONFIG)
    variant = sessions.select(
        pl.col(column).alias(name) for column, name in zip(variant_columns("overnight"), COLUMNS, strict=True)
    )
    assert variant.equals(night.select(COLUMNS))


def test_sessions_equal_the_reference_in_points_and_contracts(market, es):
    sessions = build_sessions(market, es, CONFIG)
    for row in sessions.iter_rows(named=True):
        day = market.filter(pl.col("session") == row["session"])
        bars = [Bar(*(int(4 * x) for x in b[:3]), b[3]) for b in day.select("low", "high", "close", "volume").rows()]
        levels = reference.levels_of(bars, Fraction(7, 10), 2)
        assert (row["vpoc"] * 4, row["vah"] * 4, row["val"] * 4) == levels[:3]
        assert row["va_volume"] == pytest.approx(levels.va_units / 720_720)
        assert row["open"] == day["open"][0]
        assert row["close"] == day["close"][-1]
        assert row["volume"] == day["volume"].sum()
        assert row["range"] == day["high"].max() - day["low"].min()


def test_a_session_without_rth_bars_has_null_variants(make_bars, es):
    sessions = build_sessions(make_bars([Bar(10, 12, 11, 5)], rth=False), es, CONFIG)
    assert sessions.select(pl.col("^rth_.*$").is_null().all()).row(0) == (True,) * len(COLUMNS)
    assert sessions.select(pl.col(OPENING).is_null().all()).row(0) == (True,) * len(OPENING)
    assert sessions["overnight_vpoc"].to_list() == [11 * 0.25]
    assert sessions["vpoc"].to_list() == [11 * 0.25]


def test_no_bars_give_no_sessions_and_no_levels(market, es):
    sessions, developing = build_sessions(market.head(0), es, CONFIG), build_developing(market.head(0), es, CONFIG)
    assert sessions.is_empty()
    assert sessions.schema == build_sessions(market, es, CONFIG).schema
    assert developing.is_empty()
    assert developing.schema == build_developing(market, es, CONFIG).schema


def test_the_last_developing_row_of_a_session_is_its_session_row(market, es):
    last = build_developing(market, es, CONFIG).group_by("session", maintain_order=True).last()
    sessions = build_sessions(market, es, CONFIG)
    assert last.select("session", "vpoc", "vah", "val").equals(sessions.select("session", "vpoc", "vah", "val"))


@pytest.mark.parametrize("rows", [1, 89, 90, 91, 200, 333])
def test_developing_levels_of_a_prefix_are_the_prefix_of_the_levels(market, es, rows):
    levels = build_developing(market, es, CONFIG)
    assert build_developing(market.head(rows), es, CONFIG).equals(levels.head(rows))


def test_the_histogram_holds_every_contract_once(market, es):
    prices, volume = volume_profile(market, es)
    assert volume.sum() == pytest.approx(market["volume"].sum(), rel=1e-12)
    assert np.allclose(np.diff(prices), es.tick_size)
    assert (prices[0], prices[-1]) == (market["low"].min(), market["high"].max())


def test_a_histogram_without_bars_is_rejected(market, es):
    with pytest.raises(InsufficientSessionsError, match="a profile is made of bars"):
        volume_profile(market.head(0), es)


def test_bars_out_of_order_of_two_contracts_or_contradictory_are_rejected(market, es):
    two = pl.concat([market.head(1), market.slice(1, 1).with_columns(pl.lit("ESM25").alias("contract"))])
    inverted = market.with_columns(pl.col("high").alias("low"), pl.col("low").alias("high"))
    for broken, message in (
        (market.reverse(), "out of order"),
        (two, "2 contracts"),
        (inverted, "contradict it, the first at 2025-01-06 15:0"),
    ):
        with pytest.raises(ArtifactError, match=message):
            build_sessions(broken, es, CONFIG)


def test_the_share_of_the_value_area_is_an_exact_ratio():
    assert profile_rule(ProfileConfig()) == (7, 10, 2, 0)
    assert profile_rule(ProfileConfig(value_area=0.68, value_area_rule="one_price")) == (17, 25, 1, 0)
    assert profile_rule(ProfileConfig(value_area=1.0)) == (1, 1, 2, 0)


def test_a_share_of_one_makes_the_full_range_the_value_area(make_bars, es):
    bars = make_bars([Bar(10, 12, 11, 5), Bar(20, 21, 20, 7)])
    row = build_sessions(bars, es, ProfileConfig(value_area=1.0)).row(0, named=True)
    assert (row["val"], row["vah"], row["va_volume"]) == (2.5, 5.25, 12.0)
    assert row["session"] == date(2025, 1, 6)


def test_every_builder_uses_the_spread_setting(make_bars, es):
    # low 100.00, high 100.75, close 100.25, 10 contracts
    bars = make_bars([Bar(400, 403, 401, 10)])
    for spread in SPREADS:
        config = ProfileConfig(spread=spread)
        assert build_sessions(bars, es, config)["vpoc"].to_list() == [100.25]
        assert build_developing(bars, es, config)["vpoc"].to_list() == [100.25]
        assert volume_profile(bars, es, config).volume.sum() == 10
    assert volume_profile(bars, es, ProfileConfig(spread="close_only")).volume.tolist() == [0, 10, 0, 0]
    # the area of 70 % takes the close and, where it must, the two prices above: 2.5 + 5, 10, or 4 + 4
    held = {name: build_sessions(bars, es, ProfileConfig(spread=name))["va_volume"].item() for name in SPREADS}
    assert held == {"uniform": 7.5, "close_only": 10.0, "triangular": pytest.approx(8.0)}
