"""Features computed by hand on a small market."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.build import build_features
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

ES = instrument("ES")
MONDAY = date(2025, 1, 6)


def features_of(*sessions: list[tuple[float, float, float, int]]) -> pl.DataFrame:
    """Features of weekdays from Monday 2025-01-06 on, given (low, high, close, volume) a minute from 08:30 Chicago."""
    rows = []
    for at, bars in enumerate(sessions):
        day = 7 * (at // 5) + at % 5
        opened = datetime(2025, 1, 6, 14, 30, tzinfo=UTC) + timedelta(days=day)
        for minute, (low, high, close, volume) in enumerate(bars):
            session = MONDAY + timedelta(days=day)
            rows.append((opened + timedelta(minutes=minute), "ESH25", session, True, low, high, low, close, volume))
    names = ("ts", "contract", "session", "rth", "open", "high", "low", "close", "volume")
    bars = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    vix = pl.DataFrame(
        {"date": [date(2024, 12, 20) + timedelta(days=n) for n in range(9)], "close": [16.0] * 8 + [20.0]}
    )
    vix = vix.with_columns(available_at("date").alias("available_at"))
    bars, config = bars.with_columns(pl.lit(20.0).alias("vix")), ProfileConfig()
    return build_features(bars, build_sessions(bars, ES, config), build_developing(bars, ES, config), vix, ES)


def test_price_mom_3d_starts_at_the_close_three_sessions_before():
    # closes 100, 110, 120, 130, 140: on the fourth day three sessions before is the first, not the second
    found = features_of(*([(close, close, close, 1)] for close in (100.0, 110.0, 120.0, 130.0, 140.0)))["price_mom_3d"]
    assert found[:3].is_nan().all()
    assert found[3] == pytest.approx(100 * math.log(130 / 100), rel=1e-6)
    assert found[4] == pytest.approx(100 * math.log(140 / 110), rel=1e-6)


def test_price_mom_3d_within_the_session_moves_from_the_same_close():
    days = [[(100.0, 100.0, 100.0, 1), (101.0, 101.0, 101.0, 1)], *[[(105.0, 105.0, 105.0, 1)]] * 2]
    found = features_of(*days, [(102.0, 102.0, 102.0, 1), (103.0, 103.0, 103.0, 1)])["price_mom_3d"]
    assert found[4:].to_list() == pytest.approx([100 * math.log(102 / 101), 100 * math.log(103 / 101)], rel=1e-6)


def test_vwap_restarts_with_the_session():
    # typical prices 100, 102, 104 with 1, 2, 1 contracts: VWAP 100, 304/3, 102; next day its own 200
    bars = [(99.0, 101.0, 100.0, 1), (101.0, 103.0, 102.0, 2), (103.0, 105.0, 104.0, 1)]
    found = features_of(bars, [(200.0, 200.0, 200.0, 5), (200.0, 206.0, 206.0, 0)])["vwap"]
    # (102 / (304/3) - 1), (104 / 102 - 1); on the second day the last bar moves without trading
    assert found.to_list() == pytest.approx([0, 65.78947, 196.07843, 0, 300], rel=1e-6)


def test_va_pos_dev_counts_a_narrow_area_as_four_ticks_and_clips():
    # bar 1: one price, area [100, 100] counts as 1 point wide: (100 - 100) / 1
    # bar 2: 100 holds 90 of 100 contracts, area still [100, 100]; close 100.50 -> 0.5
    # bar 3: one contract at 110 -> (110 - 100) / 1 = 10, clipped to 6
    # bar 4: one contract at 90 -> -10, clipped to -5
    bars = [(100.0, 100.0, 100.0, 90), (100.5, 100.5, 100.5, 10), (110.0, 110.0, 110.0, 1), (90.0, 90.0, 90.0, 1)]
    assert features_of(bars)["va_pos_dev"].to_list() == pytest.approx([0, 0.5, 6, -5])


def test_va_pos_dev_in_a_wide_area():
    # 8 ticks 100.00..101.75, 10 contracts each: middle rows 100.75 and 101.00 tie, the lower is the VPOC.
    # 70 % of 80 is 56: VPOC 10, two above 20 (101.25), two below 20 loses the tie: above again, 20 (101.75),
    # then 50 < 56 and only below is left: 20 -> 70. Area 100.25..101.75; close 101.00 -> 0.75 / 1.50
    assert features_of([(100.0, 101.75, 101.0, 80)])["va_pos_dev"][0] == pytest.approx(0.5)


def test_va_pos_prev_uses_the_session_before():
    # the day before as above: area 100.25..101.75; close 102.50 -> 2.25 / 1.50
    found = features_of([(100.0, 101.75, 101.0, 80)], [(102.5, 102.5, 102.5, 7)])["va_pos_prev"]
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(1.5)


def test_vix_features_use_published_closes():
    found = features_of([(100.0, 100.0, 100.0, 1)])
    assert found["vix_lag1"][0] == 20
    assert found["vix_chg_5d"][0] == pytest.approx(math.log(20 / 16), rel=1e-6)


def test_time_and_roll():
    # 08:30 Chicago is 15.5 hours after the open: 930 of 1380 minutes
    found = features_of([(100.0, 100.0, 100.0, 1)])
    assert found["tod_sin"][0] == pytest.approx(math.sin(2 * math.pi * 930 / 1380), rel=1e-6)
    assert found["tod_cos"][0] == pytest.approx(math.cos(2 * math.pi * 930 / 1380), rel=1e-6)
    assert found["is_rth"][0] == 1
    # ESH25 rolls on Monday 2025-03-17: ten weeks of five days from 2025-01-06, all of them sessions
    assert found["days_to_roll"][0] == 50
    assert features_of(*[[(100.0, 100.0, 100.0, 1)]] * 6)["dow"].to_list() == [0, 0.25, 0.5, 0.75, 1, 0]


def test_share_at_the_vpoc_and_below_the_close():
    # 10 contracts on four ticks: 2.5 on each, two of them at or below 100.25; then 10 more at 100.25 alone
    found = features_of([(100.0, 100.0, 100.0, 0), (100.0, 100.75, 100.25, 10), (100.25, 100.25, 100.25, 10)])
    assert found["vpoc_share"].to_list() == pytest.approx([1, 0.25, 12.5 / 20])
    assert found["profile_cdf"].to_list() == pytest.approx([0.5, 0.5, 15 / 20])


def test_naked_levels():
    # VPOC 97, forgotten after 20 sessions; 17 at 104, all traded by S2; S1 100; S2 105, range 101-108; S3 103, 102-106
    flat = [[(97.0, 97.0, 97.0, 1)], *[[(104.0, 104.0, 104.0, 1)]] * 17, [(100.0, 100.0, 100.0, 1)]]
    second = [(105.0, 105.0, 105.0, 10), (101.0, 108.0, 105.0, 1)]
    third = [(103.0, 103.0, 103.0, 10), (102.0, 106.0, 103.0, 1)]
    fourth = [(101.0, 101.0, 101.0, 1), (102.0, 104.0, 104.0, 1), (99.5, 100.0, 99.5, 1)]
    found = features_of(*flat, second, third, fourth)[-3:]
    # true ranges: 11 of 0, then 4, 8, 4: ATR 16/14. 103 dies at the second bar, 100 at the third
    atr = 16 / 14
    assert found["naked_up"].to_list() == pytest.approx([2 / atr, 5, 5])
    assert found["naked_dn"].to_list() == pytest.approx([1 / atr, 4 / atr, 5])


def test_a_naked_level_is_dropped_after_twenty_sessions():
    # VPOC 97, then 21 sessions of 104-108, whose own VPOC 106 each of the next ones trades: true range 4
    found = features_of([(97.0, 97.0, 97.0, 1)], *[[(104.0, 108.0, 104.0, 1)]] * 21)
    assert found["naked_dn"].to_list()[-2:] == pytest.approx([7 / 4, 5])
    assert found["naked_up"].to_list()[-2:] == [5, 5]


def test_a_level_is_traded_by_a_bar_that_only_touches_it():
    # 20 sessions whose VPOC is their low, 100, a true range of 4; then one that stays at or above it
    days = [[(100.0, 100.0, 100.0, 10), (100.0, 104.0, 104.0, 1)]] * 20
    found = features_of(*days, [(101.0, 101.0, 101.0, 1), (100.0, 101.0, 101.0, 1), (101.0, 101.0, 101.0, 1)])
    assert found["naked_dn"].to_list()[-3:] == pytest.approx([0.25, 5, 5])
    # and from below: 104 is the VPOC
    days = [[(104.0, 104.0, 104.0, 10), (100.0, 104.0, 100.0, 1)]] * 20
    found = features_of(*days, [(101.0, 101.0, 101.0, 1), (101.0, 104.0, 101.0, 1), (101.0, 101.0, 101.0, 1)])
    assert found["naked_up"].to_list()[-3:] == pytest.approx([0.75, 5, 5])


def test_distance_to_the_nearest_node_of_five_sessions():
    # five sessions of 50 contracts at 100 and 100 at 103, a true range of 3 each: ATR 15/14
    two_hills = [(100.0, 100.0, 100.0, 50), (103.0, 103.0, 103.0, 100)]
    today = [(101.5, 101.5, 101.5, 1), (101.75, 101.75, 101.75, 1), (110.0, 110.0, 110.0, 1)]
    found = features_of(*[[(100.0, 100.0, 100.0, 1)]] * 9, *[two_hills] * 5, today)[-3:]
    atr = 15 / 14
    # halfway the lower node counts; 7 points above the upper one are cut off at 5 ATR
    assert found["hvn_dist_5d"].to_list() == pytest.approx([1.5 / atr, -1.25 / atr, 5])
    assert found["vpoc_migr_5d"].to_list() == pytest.approx([3 / atr] * 3)
    assert found["gap_open"].to_list() == pytest.approx([-1.5 / atr] * 3)


def test_a_composite_without_volume_has_no_node():
    silent, traded = [(100.0, 101.0, 100.0, 0)], [(100.0, 101.0, 100.0, 1)]
    assert features_of(*[silent] * 15)["hvn_dist_5d"].is_nan().all()
    assert features_of(*[silent] * 13, traded, silent)["hvn_dist_5d"].is_nan().to_list() == [True] * 14 + [False]
