"""Repaired levels of complete contracts, one of them real, compared with regrown levels and with the definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from tests.profile import reference
from tests.profile.reference import Bar

from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.profile.developing import build_developing, extend_developing
from vpoc_ml.profile.histogram import volume_profile
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.profile.tick_bars import profile_rule, tick_bars
from vpoc_ml.synthetic.generate import write_market

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory, es) -> pl.DataFrame:
    market = write_market(tmp_path_factory.mktemp("market"), contracts=1)
    code, path = next(iter(market.files.items()))
    return build_bars(path, parse_contract(code), es, read_vix(market.vix), IngestConfig()).bars


@pytest.fixture(scope="module")
def real(real_data, es) -> pl.DataFrame:
    vix = read_vix(next((real_data / "vix").glob("*.csv")))
    path = real_data / "es_ninjatrader" / "ES 03-25.Last.txt"
    return build_bars(path, parse_contract("ESH25"), es, vix, IngestConfig()).bars


@pytest.fixture(params=["synthetic", pytest.param("real", marks=pytest.mark.real)])
def bars(request: pytest.FixtureRequest) -> pl.DataFrame:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("rule", ["two_price", "one_price"])
@pytest.mark.parametrize("share", [0.7, 0.68, 0.05, 1.0])
def test_every_level_of_a_contract_equals_the_regrown_one(bars, es, regrown, rule, share):
    config = ProfileConfig(value_area=share, value_area_rule=rule)
    expected = regrown(tick_bars(bars, es), profile_rule(config)) * es.tick_size
    assert np.array_equal(build_developing(bars, es, config).select("vpoc", "vah", "val").to_numpy(), expected)


def test_sampled_bars_of_a_contract_equal_the_definition(bars, es):
    found = build_developing(bars, es, ProfileConfig()).select("vpoc", "vah", "val").rows()
    ticks = tick_bars(bars, es)
    columns = np.array(ticks[:4]).T
    for row in np.random.default_rng(0).integers(0, bars.height, 25):
        start = int(ticks.starts[np.searchsorted(ticks.starts, row, side="right") - 1])
        session = [Bar(*map(int, bar)) for bar in columns[start : row + 1]]
        levels = reference.levels_of(session, Fraction(7, 10), 2)
        assert found[row] == tuple(level * es.tick_size for level in levels[:3])


def test_levels_of_chunks_equal_the_levels_of_one_call(bars, es):
    levels_at_once, state, parts = build_developing(bars, es, ProfileConfig()), None, []
    for part in bars.iter_slices(1000):
        levels, state = extend_developing(part, es, ProfileConfig(), state)
        parts.append(levels)
    assert pl.concat(parts).equals(levels_at_once)
    last = levels_at_once.group_by("session", maintain_order=True).last()
    sessions = build_sessions(bars, es, ProfileConfig())
    assert last.select("session", "vpoc", "vah", "val").equals(sessions.select("session", "vpoc", "vah", "val"))


@pytest.mark.parametrize("spread", ["uniform", "close_only", "triangular"])
def test_the_profile_conserves_the_traded_volume(bars, es, spread):
    volume = volume_profile(bars, es, ProfileConfig(spread=spread)).volume
    assert round(float(volume.sum())) == bars["volume"].sum()


def test_full_session_rth_and_night_are_consistent(bars, es):
    sessions = build_sessions(bars, es, ProfileConfig())
    full = sessions.filter(pl.col("rth_bars") == 390)
    assert full.height > 40
    assert (full["overnight_bars"] + full["rth_bars"] <= full["bars"]).all()
    inside = (
        (full["ib_high"] <= full["rth_high"])
        & (full["ib_low"] >= full["rth_low"])
        & (full["or_high"] <= full["ib_high"])
        & (full["or_low"] >= full["ib_low"])
    )
    assert inside.all()
