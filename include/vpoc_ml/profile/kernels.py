"""Compiled kernels of the volume profile: int64 ticks in, int64 ticks out, exact.

A profile is an int64 array of units; row ``k`` is the tick ``base + k``. Units fit: 5 million
contracts a session times ``SCALE`` times a share's denominator of at most 10000 stay below 2**63.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SCALE = 720_720
"""Units of one contract: lcm(1..16), so a bar of up to 16 ticks spreads without remainder."""

LOW, HIGH, VPOC, PEAK, TOTAL, TIED, STATE_SIZE = 0, 1, 2, 3, 4, 5, 6
"""Slots of a session's running state; LOW > HIGH marks a session without bars."""


@numba.njit(cache=True, nogil=True)
def find_vpoc(profile: Ints, first: int, last: int) -> int:
    """Return the row of the largest volume in ``first..last``; ties: nearest the middle, then lower."""
    best, middle = first, first + last
    for row in range(first + 1, last + 1):
        nearer = abs(2 * row - middle) < abs(2 * best - middle)
        if profile[row] > profile[best] or (profile[row] == profile[best] and nearer):
            best = row
    return best


@numba.njit(cache=True, nogil=True)
def _units_above(profile: Ints, high: int, last: int, step: int) -> int:
    """Return the units on the next ``step`` rows, or -1 where there is none: an exhausted side loses."""
    if high == last:
        return -1
    return int(profile[high + 1] + (profile[high + 2] if step == 2 and high + 2 <= last else 0))


@numba.njit(cache=True, nogil=True)
def _units_below(profile: Ints, low: int, first: int, step: int) -> int:
    if low == first:
        return -1
    return int(profile[low - 1] + (profile[low - 2] if step == 2 and low - 2 >= first else 0))


@numba.njit(cache=True, nogil=True)
def find_value_area(
    profile: Ints, first: int, last: int, vpoc: int, total: int, share_num: int, share_den: int, step: int
) -> tuple[int, int, int]:
    """Return (lowest row, highest row, units) of the value area grown from ``vpoc``.

    ``step`` rows are compared at a time (2 or 1); growth stops at ``units / total >= share_num / share_den``.
    """
    low = high = vpoc
    units = profile[vpoc]
    target = -(-share_num * total // share_den)
    above = _units_above(profile, high, last, step)
    below = _units_below(profile, low, first, step)
    while units < target:
        if above >= below:
            high = min(high + step, last)
            units += above
            above = _units_above(profile, high, last, step)
        else:
            low = max(low - step, first)
            units += below
            below = _units_below(profile, low, first, step)
    return low, high, units


@numba.njit(cache=True, nogil=True)
def session_levels(
    low: Ints, high: Ints, close: Ints, volume: Ints, starts: Ints, share_num: int, share_den: int, step: int
) -> Ints:
    """Return one row a session: VPOC, VAH, VAL in ticks and the value area's units.

    ``starts`` holds the first bar of each session and, last, the number of bars. A session's bars
    fill a difference array (two writes a bar), whose running sum is the profile.
    """
    base = low.min()
    profile = np.zeros(high.max() - base + 2, np.int64)
    levels = np.empty((starts.size - 1, 4), np.int64)
    for session in range(starts.size - 1):
        begin, end = starts[session], starts[session + 1]
        first, last = low[begin:end].min() - base, high[begin:end].max() - base
        profile[first : last + 2] = 0
        for bar in range(begin, end):
            _mark(profile, low[bar] - base, high[bar] - base, close[bar] - base, volume[bar])
        total = np.int64(0)
        for row in range(first, last + 1):
            if row > first:
                profile[row] += profile[row - 1]
            total += profile[row]
        vpoc = find_vpoc(profile, first, last)
        val, vah, units = find_value_area(profile, first, last, vpoc, total, share_num, share_den, step)
        levels[session] = (base + vpoc, base + vah, base + val, units)
    return levels


@numba.njit(cache=True, nogil=True)
def _mark(difference: Ints, low: int, high: int, close: int, volume: int) -> None:
    """Add one bar to a difference array: the even share over low..high, the remainder at the close."""
    rows = high - low + 1
    share = volume * SCALE // rows
    rest = volume * SCALE - share * rows
    difference[low] += share
    difference[high + 1] -= share
    difference[close] += rest
    difference[close + 1] -= rest


@numba.njit(cache=True, nogil=True)
def new_state() -> Ints:
    """Return the running state of a session without bars."""
    state = np.zeros(STATE_SIZE, np.int64)
    state[HIGH] = -1
    return state


@numba.njit(cache=True, nogil=True)
def extend_session(
    low: Ints,
    high: Ints,
    close: Ints,
    volume: Ints,
    base: int,
    profile: Ints,
    state: Ints,
    share_num: int,
    share_den: int,
    step: int,
    levels: Ints,
) -> None:
    """Add bars of one session to ``profile`` and ``state``; write VPOC, VAH, VAL after each to ``levels``.

    ``profile`` and ``state`` carry over to the next call, so any chunking gives the same levels.
    """
    for bar in range(low.size):
        bottom, top = low[bar] - base, high[bar] - base
        _add_bar(profile, state, bottom, top, close[bar] - base, volume[bar])
        val, vah, _ = find_value_area(
            profile, state[LOW], state[HIGH], state[VPOC], state[TOTAL], share_num, share_den, step
        )
        levels[bar] = (base + state[VPOC], base + vah, base + val)


@numba.njit(cache=True, nogil=True)
def _add_bar(profile: Ints, state: Ints, low: int, high: int, close: int, volume: int) -> None:
    """Spread one bar and repair the VPOC.

    Volume only grows, so only a row inside the bar can become the new peak. An exact tie needs a
    look at the whole range, also later, because the middle it is judged by moves with the range.
    """
    if state[LOW] > state[HIGH]:
        state[LOW], state[HIGH] = low, high
    state[LOW], state[HIGH] = min(state[LOW], low), max(state[HIGH], high)
    rows = high - low + 1
    share = volume * SCALE // rows
    profile[close] += volume * SCALE - share * rows
    state[TOTAL] += volume * SCALE
    for row in range(low, high + 1):
        profile[row] += share
        if profile[row] > state[PEAK]:
            state[PEAK], state[VPOC], state[TIED] = profile[row], row, 0
        elif profile[row] == state[PEAK] and row != state[VPOC]:
            state[TIED] = 1
    if state[TIED] == 1 or state[PEAK] == 0:
        state[VPOC] = find_vpoc(profile, state[LOW], state[HIGH])


@numba.njit(cache=True, nogil=True)
def developing_levels(
    low: Ints, high: Ints, close: Ints, volume: Ints, starts: Ints, share_num: int, share_den: int, step: int
) -> Ints:
    """Return one row a bar: VPOC, VAH, VAL in ticks of its session up to and including it."""
    base = low.min()
    profile = np.zeros(high.max() - base + 1, np.int64)
    levels = np.empty((low.size, 3), np.int64)
    for session in range(starts.size - 1):
        bars = slice(starts[session], starts[session + 1])
        state = new_state()
        profile[low[bars].min() - base : high[bars].max() - base + 1] = 0
        extend_session(
            low[bars], high[bars], close[bars], volume[bars],
            base, profile, state, share_num, share_den, step, levels[bars],
        )  # fmt: skip
    return levels


@numba.njit(cache=True, nogil=True)
def session_profile(low: Ints, high: Ints, close: Ints, volume: Ints) -> Ints:
    """Return the units on each tick from the lowest low to the highest high of the bars."""
    base = low.min()
    profile = np.zeros(high.max() - base + 2, np.int64)
    for bar in range(low.size):
        _mark(profile, low[bar] - base, high[bar] - base, close[bar] - base, volume[bar])
    return np.cumsum(profile)[:-1]
