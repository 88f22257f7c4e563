"""Developing levels in pieces: any chunks, state saved and loaded between them, give the levels of one call."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.profile.reference import Bar

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.developing import ProfileState, build_developing, extend_developing

pytestmark = pytest.mark.slow

CONFIG = ProfileConfig()


@pytest.fixture(scope="module")
def market(make_bars) -> pl.DataFrame:
    """Four sessions of 60 bars: ties, jumps, bars without volume."""
    draw = np.random.default_rng(11)
    sessions = []
    for _ in range(4):
        close = 20_000 + np.cumsum(draw.integers(-9, 10, 60))
        low, high = close - draw.integers(0, 6, 60), close + draw.integers(0, 6, 60)
        sessions.append([Bar(*map(int, row)) for row in zip(low, high, close, draw.integers(0, 4, 60), strict=True)])
    return make_bars(*sessions)


def in_pieces(bars: pl.DataFrame, es: Instrument, config: ProfileConfig, edges: list[int], path: Path) -> pl.DataFrame:
    """The levels, the state written to a file and read back between the pieces."""
    state, parts = None, []
    for begin, end in pairwise(edges):
        levels, state = extend_developing(bars[begin:end], es, config, state)
        parts.append(levels)
        if state:
            state.save(path)
            state = ProfileState.load(path)
    return pl.concat(parts)


@pytest.mark.parametrize("spread", ["uniform", "close_only", "triangular"])
@pytest.mark.parametrize("rule", ["two_price", "one_price"])
@pytest.mark.parametrize("size", [1, 7, 59, 60, 61, 1000])
def test_chunks_of_any_size_give_the_levels_of_one_call(market, es, tmp_path, size, rule, spread):
    config = ProfileConfig(value_area_rule=rule, spread=spread)
    edges = [*range(0, market.height, size), market.height]
    found = in_pieces(market, es, config, edges, tmp_path / "state.npz")
    assert found.equals(build_developing(market, es, config))


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 240), max_size=8))
def test_levels_do_not_depend_on_where_the_bars_are_cut(market, es, tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("state") / "state.npz"
    found = in_pieces(market, es, CONFIG, [0, *sorted(cuts), market.height], path)
    assert found.equals(build_developing(market, es, CONFIG))


def test_a_saved_state_holds_the_profile_and_its_position(market, es, tmp_path):
    _, state = extend_developing(market.head(100), es, CONFIG)
    assert state is not None
    state.save(tmp_path / "a.npz")
    extend_developing(market.head(100), es, CONFIG)[1].save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = ProfileState.load(tmp_path / "a.npz")
    held = market[60:100]
    assert loaded.session == held["session"][0]
    assert loaded.ts == held["ts"][-1]
    assert loaded.low * es.tick_size == held["low"].min()
    assert loaded.units.sum() == held["volume"].sum() * 720_720


def test_a_state_of_another_contract_spread_or_time_is_rejected(market, es, tmp_path):
    _, state = extend_developing(market.head(100), es, CONFIG)
    other = market[100:].with_columns(pl.lit("ESM25").alias("contract"))
    with pytest.raises(ArtifactError, match="expected ESM25"):
        extend_developing(other, es, CONFIG, state)
    with pytest.raises(ArtifactError, match="triangular"):
        extend_developing(market[100:], es, ProfileConfig(spread="triangular"), state)
    with pytest.raises(ArtifactError, match="the bars after"):
        extend_developing(market[99:], es, CONFIG, state)


def test_a_damaged_state_file_is_rejected(tmp_path):
    path = tmp_path / "state.npz"
    for content in (b"", b"PK\x03\x04torn"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="a saved profile state"):
            ProfileState.load(path)
    with pytest.raises(ArtifactError, match="a saved profile state"):
        ProfileState.load(tmp_path / "absent.npz")


def test_anchors_use_their_own_bars_and_no_later_ones(market, es):
    minute = pl.int_range(pl.len()).over("session")
    bars = market.with_columns(minute.is_between(20, 49).alias("rth"))
    rth, night = build_developing(bars, es, CONFIG, "rth"), build_developing(bars, es, CONFIG, "overnight")
    assert rth.filter(bars["rth"]).equals(build_developing(bars.filter("rth"), es, CONFIG))
    before = bars.select(minute < 20).to_series()
    assert night.filter(before).equals(build_developing(bars.filter(before), es, CONFIG))
    for levels, empty, last in ((rth, minute < 20, 49), (night, pl.lit(value=False), 19)):
        table = levels.with_columns(minute.alias("minute"), empty.alias("empty"))
        assert table.filter("empty")["vpoc"].is_null().all()
        stays = table.filter(pl.col("minute") >= last).group_by("session").agg(pl.col("vpoc", "vah", "val").n_unique())
        assert stays.select("vpoc", "vah", "val").unique().rows() == [(1, 1, 1)]
    for rows in (5, 30, 55, 100):
        assert build_developing(bars.head(rows), es, CONFIG, "overnight").equals(night.head(rows))
        assert build_developing(bars.head(rows), es, CONFIG, "rth").equals(rth.head(rows))
