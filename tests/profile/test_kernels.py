"""The kernels against the slow reference, on sessions made to break them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.profile import kernels, reference
from vpoc_ml.profile.reference import Bar

SHARE = Fraction(7, 10)

VOLUMES = st.sampled_from([0, 0, 1, 1, 2, 3, 16, 17, 1_000_003])
"""Few distinct volumes make exact ties common."""


@st.composite
def adversarial_bar(draw: st.DrawFn) -> Bar:
    """A bar of 1 to 40 ticks anywhere in a range that leaves gaps between bars."""
    low = draw(st.integers(0, 70))
    high = low + draw(st.sampled_from([0, 0, 1, 1, 2, 3, 7, 16, 39]))
    return Bar(low, high, draw(st.integers(low, high)), draw(VOLUMES))


SESSION = st.lists(adversarial_bar(), min_size=1, max_size=25)
SESSIONS = st.lists(SESSION, min_size=1, max_size=4)


def columns(bars: list[Bar]) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(column) for column in np.array(bars, np.int64).T)


def starts_of(sessions: list[list[Bar]]) -> np.ndarray:
    return np.cumsum([0, *map(len, sessions)]).astype(np.int64)


@settings(max_examples=400, deadline=None)
@given(sessions=SESSIONS, step=st.sampled_from([1, 2]), share=st.sampled_from([SHARE, Fraction(68, 100), Fraction(1)]))
def test_session_levels_equal_the_reference(sessions, step, share):
    flat = [bar for bars in sessions for bar in bars]
    found = kernels.session_levels(*columns(flat), starts_of(sessions), share.numerator, share.denominator, step)
    assert [tuple(row) for row in found] == [reference.levels_of(bars, share, step) for bars in sessions]


@settings(max_examples=400, deadline=None)
@given(sessions=SESSIONS, step=st.sampled_from([1, 2]))
def test_developing_levels_equal_the_reference_at_every_bar(sessions, step):
    flat = [bar for bars in sessions for bar in bars]
    found = kernels.developing_levels(*columns(flat), starts_of(sessions), 7, 10, step)
    expected = [levels[:3] for bars in sessions for levels in reference.developing_levels_of(bars, SHARE, step)]
    assert [tuple(row) for row in found] == expected


@settings(max_examples=200, deadline=None)
@given(bars=SESSION, cuts=st.lists(st.integers(0, 25), max_size=4))
def test_developing_levels_do_not_depend_on_the_chunks(bars, cuts):
    low, high, close, volume = columns(bars)
    whole = kernels.developing_levels(low, high, close, volume, np.array([0, low.size]), 7, 10, 2)
    base = int(low.min())
    profile, state = np.zeros(high.max() - base + 1, np.int64), kernels.new_state()
    chunked = np.empty_like(whole)
    edges = [0, *sorted(min(cut, low.size) for cut in cuts), low.size]
    for begin, end in pairwise(edges):
        part = slice(begin, end)
        kernels.extend_session(
            low[part], high[part], close[part], volume[part], base, profile, state, 7, 10, 2, chunked[part]
        )
    assert np.array_equal(whole, chunked)


@settings(max_examples=200, deadline=None)
@given(bars=SESSION)
def test_the_profile_conserves_every_unit_of_volume(bars):
    low, high, close, volume = columns(bars)
    units = kernels.session_profile(low, high, close, volume)
    assert int(units.sum()) == sum(bar.volume for bar in bars) * kernels.SCALE
    assert dict(enumerate(units.tolist(), start=int(low.min()))) == reference.profile_of(bars)


@settings(max_examples=200, deadline=None)
@given(bars=SESSION)
def test_the_value_area_holds_the_share_and_the_vpoc(bars):
    low, high, close, volume = columns(bars)
    ((vpoc, vah, val, units),) = kernels.session_levels(low, high, close, volume, np.array([0, low.size]), 7, 10, 2)
    assert low.min() <= val <= vpoc <= vah <= high.max()
    assert 10 * units >= 7 * volume.sum() * kernels.SCALE


@settings(max_examples=200, deadline=None)
@given(bars=SESSION, step=st.sampled_from([1, 2]))
def test_the_value_area_counts_every_price_it_spans_and_is_not_larger_than_needed(bars, step):
    _, vah, val, units = reference.levels_of(bars, SHARE, step)
    profile = reference.profile_of(bars)
    inside = [profile[tick] for tick in range(val, vah + 1)]
    assert sum(inside) == units
    # one of its ends came last; without that step the share was not yet reached
    shorter = min(sum(inside[cut:]) for cut in (step, 1)), min(sum(inside[: len(inside) - cut]) for cut in (step, 1))
    assert len(inside) == 1 or 10 * min(shorter) < 7 * sum(profile.values())


def test_the_busiest_session_there_could_be_does_not_overflow():
    volume = np.full(1380, 3623, np.int64)  # 5 million contracts
    low = np.zeros(1380, np.int64)
    levels = kernels.session_levels(low, low, low, volume, np.array([0, 1380]), 9_999, 10_000, 2)
    assert levels.tolist() == [[0, 0, 0, int(volume.sum()) * kernels.SCALE]]


def test_a_session_without_volume_has_its_middle_as_vpoc_and_an_area_of_one_price():
    low, high = np.array([10, 12]), np.array([11, 14])
    levels = kernels.session_levels(low, high, high, np.zeros(2, np.int64), np.array([0, 2]), 7, 10, 2)
    assert levels.tolist() == [[12, 12, 12, 0]]


@pytest.mark.parametrize("ticks", range(1, 17))
def test_bars_of_up_to_16_ticks_leave_no_remainder(ticks):
    assert kernels.SCALE % ticks == 0


def test_the_value_area_does_not_stop_a_fraction_of_a_unit_early():
    # 7 units, 70 % are 4.9: the 4 of the VPOC are not enough
    profile = np.array([4, 3], np.int64)
    assert kernels.find_value_area(profile, 0, 1, 0, 7, 7, 10, 2) == (0, 1, 7)
