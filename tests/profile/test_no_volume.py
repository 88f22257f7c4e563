"""A profile without volume has no VPOC and no value area."""

from __future__ import annotations

import pytest
from tests.profile.reference import Bar

from vpoc_ml.config import ProfileConfig
from vpoc_ml.profile.developing import build_developing, extend_developing
from vpoc_ml.profile.sessions import build_composites, build_sessions, naked_levels

CONFIG = ProfileConfig()
LEVELS = ("vpoc", "vah", "val")
SILENT = [Bar(100, 108, 104, 0), Bar(96, 100, 98, 0)]
LATE = [Bar(100, 108, 104, 0), Bar(90, 90, 90, 3), Bar(200, 200, 200, 0)]


def test_a_session_without_volume_has_prices_and_null_levels(make_bars, es):
    row = build_sessions(make_bars(SILENT, LATE), es, CONFIG)
    silent, traded = row.rows(named=True)
    assert [silent[name] for name in LEVELS] == [None, None, None]
    assert [silent[f"rth_{name}"] for name in LEVELS] == [None, None, None]
    assert (silent["volume"], silent["va_volume"], silent["high"], silent["low"]) == (0, 0, 27.0, 24.0)
    assert [traded[name] for name in LEVELS] == [22.5, 22.5, 22.5]


def test_developing_levels_are_null_until_the_first_trade_of_the_session(make_bars, es):
    levels = build_developing(make_bars(LATE, SILENT, LATE), es, CONFIG)
    expected = [None, 22.5, 22.5, None, None, None, 22.5, 22.5]
    assert [levels[name].to_list() for name in LEVELS] == [expected] * 3


@pytest.mark.parametrize("cut", range(1, 8))
def test_levels_in_two_chunks_depend_on_all_volume_of_the_session(make_bars, es, cut):
    bars = make_bars(LATE, SILENT, LATE)
    first, state = extend_developing(bars[:cut], es, CONFIG)
    second, _ = extend_developing(bars[cut:], es, CONFIG, state)
    assert first.vstack(second).equals(build_developing(bars, es, CONFIG))


def test_a_composite_of_sessions_without_volume_has_null_levels(make_bars, es):
    composites = build_composites(make_bars(SILENT, SILENT, LATE), es, CONFIG, length=2)
    assert composites["vpoc"].to_list() == [None, 22.5]
    assert composites["va_volume"].to_list() == [0, 3]


def test_a_session_without_volume_leaves_no_naked_level(make_bars, es):
    bars = make_bars(SILENT, [Bar(300, 300, 300, 1)])
    assert naked_levels(bars, build_sessions(bars, es, CONFIG), es)["vpoc"].to_list() == [75.0]
