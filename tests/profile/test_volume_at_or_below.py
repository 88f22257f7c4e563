"""Volume at or below each close, compared with a profile rebuilt at every bar."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.profile import reference
from tests.profile.reference import Bar

from vpoc_ml.profile.kernels import TickBars, volume_at_or_below
from vpoc_ml.profile.tick_bars import SPREADS

BAR = st.builds(
    lambda low, up, more, volume: Bar(low, low + up + more, low + up, volume),
    st.integers(1_000, 1_030), st.integers(0, 20), st.integers(0, 20), st.sampled_from([0, 0, 1, 7, 400]),
)  # fmt: skip


def slow(bars: list[Bar], spread: str) -> list[tuple[int, int, int]]:
    found = []
    for count in range(1, len(bars) + 1):
        units = reference.profile_of(bars[:count], spread)
        below = sum(held for tick, held in units.items() if tick <= bars[count - 1].close)
        found.append((units[reference.vpoc_of(units)], below, sum(units.values())))
    return found


@pytest.mark.parametrize("spread", SPREADS)
@settings(max_examples=60, deadline=None)
@given(sessions=st.lists(st.lists(BAR, min_size=1, max_size=12), min_size=1, max_size=3))
def test_volumes_equal_the_slow_reference(spread, sessions):
    bars = [bar for session in sessions for bar in session]
    low, high, close, volume = (np.array(column, np.int64) for column in zip(*bars, strict=True))
    starts = np.cumsum([0, *map(len, sessions)]).astype(np.int64)
    vpoc = [
        reference.vpoc_of(reference.profile_of(session[: count + 1], spread))
        for session in sessions
        for count in range(len(session))
    ]
    found = volume_at_or_below(TickBars(low, high, close, volume, starts), SPREADS[spread], np.array(vpoc, np.int64))
    assert found.tolist() == [list(row) for session in sessions for row in slow(session, spread)]


def test_no_bars_give_no_rows():
    nothing = np.empty(0, np.int64)
    bars = TickBars(nothing, nothing, nothing, nothing, np.zeros(1, np.int64))
    assert volume_at_or_below(bars, SPREADS["uniform"], nothing).shape == (0, 3)
