"""Hand-computed volume profiles. Every number was worked out on paper, not by the code under test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from tests.profile import reference
from tests.profile.naked_bars import naked_at_bars
from tests.profile.reference import Bar

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile import kernels
from vpoc_ml.profile.kernels import Rule, TickBars
from vpoc_ml.profile.sessions import bracket_counts, build_sessions, find_prints, naked_levels, opening_ranges
from vpoc_ml.profile.tick_bars import SPREADS

ONE_PRICE, TWO_PRICE = 1, 2


@pytest.fixture
def make_bars():
    """Return a function that turns sessions of bars in ticks into RTH bars from 15:00 UTC on."""

    def make(*sessions: Sequence[Bar]) -> pl.DataFrame:
        opened, first = datetime(2025, 1, 6, 15, tzinfo=UTC), date(2025, 1, 6)
        rows = [
            (opened + timedelta(days=day, minutes=at), first + timedelta(days=day), *(x / 4 for x in bar[:3]), bar[3])
            for day, bars in enumerate(sessions)
            for at, bar in enumerate(bars)
        ]
        frame = pl.DataFrame(rows, schema=["ts", "session", "low", "high", "close", "volume"], orient="row")
        stamped = frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")), pl.col("close").alias("open"))
        return stamped.with_columns(contract=pl.lit("ESH25"), rth=True)

    return make


def levels(profile: dict[int, int], step: int, share: Fraction = Fraction(7, 10)) -> tuple[int, int, int]:
    """VPOC, VAL, VAH of contracts per tick, agreed on by kernel and reference."""
    slow = reference.value_area_of(profile, share, step)
    ticks = np.array(list(profile), np.int64)
    volume = np.array(list(profile.values()), np.int64)
    starts = np.array([0, ticks.size])
    rule = Rule(share.numerator, share.denominator, step, kernels.UNIFORM)
    ((vpoc, vah, val, _),) = kernels.session_levels(TickBars(ticks, ticks, ticks, volume, starts), rule)
    assert (vpoc, vah, val) == slow[:3]
    return int(vpoc), int(val), int(vah)


def spread(bar: Bar, name: str = "uniform") -> list[int]:
    """Units on each tick of one bar, agreed on by kernel and reference."""
    columns = (np.array([value], np.int64) for value in bar)
    units = kernels.session_profile(TickBars(*columns, np.array([0, 1])), SPREADS[name]).tolist()
    assert dict(zip(range(bar.low, bar.high + 1), units, strict=True)) == reference.profile_of([bar], name)
    return units


G1 = Bar(400, 403, 401, 10)
"""Low 100.00, high 100.75, close 100.25, 10 contracts."""


def test_g1_uniform_gives_every_tick_of_a_bar_the_same():
    assert spread(G1) == [1_801_800] * 4  # 2.5 contracts each


def test_g1_close_only_gives_all_to_the_close():
    assert spread(G1, "close_only") == [0, 7_207_200, 0, 0]


def test_g1_triangular_rises_to_the_close_and_falls_from_it():
    # 2 rows up to the close, 3 from it on: steps of 2/(2*5) = 1/5 below and 2/(3*5) = 2/15 above. Of 10 contracts
    # 2 on 400; 2/15 and 4/15 on 403 and 402, 1.3333 and 2.6667; the close has the rest, 4
    assert spread(G1, "triangular") == [1_441_440, 2_882_880, 1_921_920, 960_960]


def test_g1_the_remainder_of_a_wide_bar_goes_to_its_close():
    # 17 ticks, 1 contract: 720720 = 17 * 42395 + 5
    expected = [42_395] * 17
    expected[10] += 5
    assert spread(Bar(100, 116, 110, 1)) == expected


def test_g1_the_remainder_of_a_triangle_goes_to_its_close():
    # 7 ticks, 1 contract: 4 rows up to the close and from it on; 2 * 720720 / (4 * 8) = 45045 a step, no remainder.
    assert spread(Bar(100, 106, 103, 1), "triangular") == [45_045, 90_090, 135_135, 180_180, 135_135, 90_090, 45_045]
    # 17 ticks, close at the low: 1441440 / 18 = 80080 up to the close, 1441440 / (17 * 18) = 4710.6 a step above:
    # 16 * 4710 beside the close; 720720 - 4710 * (1 + ... + 16) = 80160 at it, 80 more than its own 80080
    assert spread(Bar(100, 116, 100, 1), "triangular") == [80_160, *(4_710 * step for step in range(16, 0, -1))]


G2 = {110: 5, 109: 10, 108: 30, 107: 8, 106: 40, 105: 20, 104: 15, 103: 12, 102: 10}


def test_g2_two_prices_at_a_time():
    # 40; up 8+30 beats down 20+15 -> 78; down 35 beats up 15 -> 113 >= 105
    assert levels(dict(sorted(G2.items())), TWO_PRICE) == (106, 104, 108)


def test_g2_one_price_at_a_time():
    # 40 +20 +15 +12 +10 (nothing left below) +8 = 105 >= 105
    assert levels(dict(sorted(G2.items())), ONE_PRICE) == (106, 102, 107)


@pytest.mark.parametrize(
    ("volumes", "vpoc"),
    [([10, 5, 10, 5, 10], 102), ([10, 2, 2, 10], 100), ([10, 2, 10, 2], 102), ([3, 10, 2, 2, 10], 101)],
)
def test_g3_equal_peaks_go_to_the_middle_then_to_the_lower(volumes, vpoc):
    # last case: 100..104, middle 102: 101 is 1 away, 104 is 2 away
    assert levels(dict(enumerate(volumes, start=100)), TWO_PRICE)[0] == vpoc


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (TWO_PRICE, [(10, 10, 11), (11, 11, 14), (10, 9, 12)]),
        (ONE_PRICE, [(10, 10, 11), (11, 11, 14), (10, 9, 11)]),
    ],
)
def test_g4_the_developing_vpoc_moves_back(step, expected):
    # the profile after each bar: {10:2, 11:2}, {10:2, 11:4, 12:2, 13:2, 14:2}, {9:6, 10:8, 11:4, 12:2, 13:2, 14:2};
    # the session's final VPOC of 10 shown at the second bar would be look-ahead
    bars = [Bar(10, 11, 11, 4), Bar(11, 14, 14, 8), Bar(9, 10, 9, 12)]
    slow = reference.developing_levels_of(bars, Fraction(7, 10), step)
    assert [(vpoc, val, vah) for vpoc, vah, val, _ in slow] == expected
    columns = np.ascontiguousarray(np.array(bars, np.int64).T)
    rule, profile = Rule(7, 10, step, kernels.UNIFORM), np.zeros(8, np.int64)
    fast = kernels.extend_levels(TickBars(*columns, np.array([0, 3])), rule, 8, profile, 0, -1)
    assert [(vpoc, val, vah) for vpoc, vah, val in fast.tolist()] == expected


def test_g5_the_value_area_is_contiguous_and_counts_every_price_it_spans():
    # the heaviest levels alone, 100 and 104, hold 86 % but lie apart; their interval holds everything
    profile = {100: 50, 101: 5, 102: 5, 103: 5, 104: 45}
    result = reference.value_area_of(profile, Fraction(7, 10), TWO_PRICE)
    assert (result.val, result.vah, result.va_units) == (100, 104, 110)
    assert levels(profile, TWO_PRICE) == (100, 100, 104)


def test_g6_a_naked_vpoc_ends_at_its_first_touch(make_bars):
    # one bar a session; levels in ticks: S1 98-103, S2 101-108 (100 survives), S3 102-106 (105 dies)
    es = instrument("ES")
    bars = make_bars([Bar(98, 103, 100, 1)], [Bar(101, 108, 105, 1)], [Bar(102, 106, 103, 1)], [Bar(101, 104, 102, 1)])
    sessions = build_sessions(bars, es, ProfileConfig(spread="close_only"))
    assert (sessions["vpoc"] * 4).to_list() == [100, 105, 103, 102]

    def naked(count: int) -> list[tuple[float, int]]:
        levels = naked_levels(bars.head(count), sessions.head(count), es)
        return [(vpoc * 4, age) for vpoc, age in levels.select("vpoc", "age").rows()]

    assert naked(1) == [(100, 0)]
    assert naked(2) == [(100, 1), (105, 0)]
    assert naked(3) == [(100, 2), (103, 0)]
    assert naked(4) == [(100, 3), (102, 0)]  # and 103 dies in the fourth session
    at_bars = naked_at_bars(bars, sessions, es).with_columns(pl.col("above", "below") * 4).drop("ts")
    assert at_bars.rows() == [
        (0, None, None, None, None),
        (1, None, 100, None, 1),
        (1, None, 100, None, 2),
        (1, None, 100, None, 3),
    ]


def prints(*brackets: tuple[int, int]) -> list[tuple[str, int, int]]:
    """Kind, lowest and highest tick of the runs that half hours of these ranges leave."""
    low, high = np.array(brackets, np.int64).T
    counts = bracket_counts(low, high, np.arange(low.size))
    return [(kind, low.min() + first, low.min() + last) for kind, first, last in find_prints(counts)]


def test_g7_tails_at_both_ends_and_no_single_print():
    # A 100-104, B 102-106, C 105-108: once 100, 101, 107, 108; twice all between
    assert prints((100, 104), (102, 106), (105, 108)) == [("low_tail", 100, 101), ("high_tail", 107, 108)]


def test_g7_single_prints_between_two_busy_ranges():
    # A 100-104, B 102-106, C 107-110, D 108-110: 105, 106 and 107 once, busier prices on either side
    found = prints((100, 104), (102, 106), (107, 110), (108, 110))
    assert found == [("low_tail", 100, 101), ("single_print", 105, 107)]


def test_g7_one_tick_at_the_extreme_is_no_tail_and_one_half_hour_has_no_structure():
    assert prints((100, 104), (101, 104)) == []
    assert prints((100, 104)) == []


def test_g7_the_initial_balance_is_the_first_two_half_hours(make_bars):
    # RTH of 2025-01-06 opens at 14:30 UTC, the bars begin at 15:00: the first half hour is missing, the second is not
    es = instrument("ES")
    hour = [Bar(102, 106, 104, 1)] * 30 + [Bar(105, 108, 106, 1)]
    (row,) = opening_ranges(make_bars(hour), es).rows(named=True)
    assert (row["ib_low"] * 4, row["ib_high"] * 4) == (102, 106)
    assert (row["or_low"], row["or_high"]) == (None, None)  # no bar in the first ten minutes


def test_a_share_of_one_spans_the_full_range():
    # MarketProfile 0.2.0 raises TypeError at value_area_pct=1.0: it looks for volume beyond the last row
    assert levels(dict(sorted(G2.items())), TWO_PRICE, Fraction(1)) == (106, 102, 110)
    assert levels(dict(sorted(G2.items())), ONE_PRICE, Fraction(1)) == (106, 102, 110)


def test_a_price_without_volume_keeps_its_row():
    # MarketProfile drops it, so that 103 lies next to 100 and joins at once. Here the area must cross 101 and 102,
    # and the side that trades goes first: 100:10; 99:3 beats nothing -> 13; 98:2 -> 15 of 24, 62 %; then up
    profile = {98: 2, 99: 3, 100: 10, 101: 0, 102: 0, 103: 9}
    assert levels(profile, ONE_PRICE, Fraction(6, 10)) == (100, 98, 100)
    assert levels(profile, ONE_PRICE) == (100, 98, 103)


def test_rows_are_ticks_and_never_rounded_up():
    # MarketProfile rounds a price up to the next row; 100.10 is on no row and would become 100.25
    assert instrument("ES").to_ticks([100.0, 100.25, 100.10]).tolist() == [400, 401, 400]
