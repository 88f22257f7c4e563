"""Hand-computed volume profiles. Every number was worked out on paper, not by the code under test."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from vpoc_ml.profile import kernels, reference
from vpoc_ml.profile.naked import naked_levels
from vpoc_ml.profile.reference import Bar

ONE_PRICE, TWO_PRICE = 1, 2


def levels(profile: dict[int, int], step: int, share: Fraction = Fraction(7, 10)) -> tuple[int, int, int]:
    """VPOC, VAL, VAH of contracts per tick, agreed on by kernel and reference."""
    slow = reference.value_area_of(profile, share, step)
    ticks = np.array(list(profile), np.int64)
    volume = np.array(list(profile.values()), np.int64)
    starts = np.array([0, ticks.size])
    ((vpoc, vah, val, _),) = kernels.session_levels(
        ticks, ticks, ticks, volume, starts, share.numerator, share.denominator, step
    )
    assert (vpoc, vah, val) == slow[:3]
    return int(vpoc), int(val), int(vah)


def test_g1_a_bar_spreads_evenly_over_its_ticks():
    # low 100.00, high 100.75, close 100.25, 10 contracts: 2.5 contracts on each of 4 ticks
    arrays = [np.array([x], np.int64) for x in (400, 403, 401, 10)]
    assert kernels.session_profile(*arrays).tolist() == [1_801_800] * 4
    assert reference.profile_of([Bar(400, 403, 401, 10)]) == dict.fromkeys((400, 401, 402, 403), 1_801_800)


def test_g1_the_remainder_of_a_wide_bar_goes_to_its_close():
    # 17 ticks, 1 contract: 720720 = 17 * 42395 + 5
    arrays = [np.array([x], np.int64) for x in (100, 116, 110, 1)]
    expected = [42_395] * 17
    expected[10] += 5
    assert kernels.session_profile(*arrays).tolist() == expected


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
    fast = kernels.developing_levels(*columns, np.array([0, 3]), 7, 10, step)
    assert [(vpoc, val, vah) for vpoc, vah, val in fast.tolist()] == expected


def test_g5_the_value_area_is_one_stretch_and_counts_all_it_spans():
    # the heaviest levels alone, 100 and 104, hold 86 % but lie apart; their interval holds everything
    profile = {100: 50, 101: 5, 102: 5, 103: 5, 104: 45}
    result = reference.value_area_of(profile, Fraction(7, 10), TWO_PRICE)
    assert (result.val, result.vah, result.va_units) == (100, 104, 110)
    assert levels(profile, TWO_PRICE) == (100, 100, 104)


def test_g6_a_naked_vpoc_dies_at_its_first_touch():
    sessions = pl.DataFrame(
        {
            "session": [date(2025, 1, 6), date(2025, 1, 7), date(2025, 1, 8)],
            "vpoc": [100.0, 105.0, 103.0],
            "low": [98.0, 101.0, 102.0],
            "high": [103.0, 108.0, 106.0],
        }
    )
    assert naked_levels(sessions.head(2))["vpoc"].to_list() == [100.0, 105.0]
    assert naked_levels(sessions)["vpoc"].to_list() == [100.0, 103.0]
