"""Compiled kernels of the volume profile: int64 ticks in, int64 ticks out, exact.

A profile is an int64 array of units; row ``k`` is the tick ``base + k``. Units do not overflow: 5 million contracts
per session times ``SCALE`` times the denominator of the share, at most 10000, stay below 2**63.

All kernels that call each other are in this file. Numba's cache on disk checks only the file of the compiled
function, so it would not notice a change of a called function in another file.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SCALE = 720_720
"""Units of one contract: lcm(1..16), so the volume of a bar of up to 16 ticks is spread without remainder."""

UNIFORM, CLOSE_ONLY, TRIANGULAR = 0, 1, 2
"""How the volume of a bar is spread over its ticks, see ``_spread``."""

ANY = np.iinfo(np.int64).max
"""The minimum over no blocks: larger than any block."""

NONE = -1
"""The block of a side without prices: smaller than any block, so it is never chosen."""


class TickBars(NamedTuple):
    """The columns of bars in kernel form; ``starts`` ends with the number of bars."""

    low: Ints
    high: Ints
    close: Ints
    volume: Ints
    starts: Ints


class Rule(NamedTuple):
    """The share of the value area as an exact ratio, the prices compared per step (2 or 1), and the spread."""

    share_num: int
    share_den: int
    step: int
    spread: int


@numba.njit(cache=True, nogil=True)
def find_vpoc(profile: Ints, first: int, last: int) -> int:
    """Return the row of the largest volume in ``first..last``; on ties the nearest to the middle, then the lower."""
    best, middle = first, first + last
    for row in range(first + 1, last + 1):
        nearer = abs(2 * row - middle) < abs(2 * best - middle)
        if profile[row] > profile[best] or (profile[row] == profile[best] and nearer):
            best = row
    return best


@numba.njit(cache=True, nogil=True)
def _units_above(profile: Ints, high: int, last: int, step: int) -> int:
    """Return the units on the next ``step`` rows above, or ``NONE`` where there are no more rows."""
    if high == last:
        return NONE
    return int(profile[high + 1] + (profile[high + 2] if step == 2 and high + 2 <= last else 0))


@numba.njit(cache=True, nogil=True)
def _units_below(profile: Ints, low: int, first: int, step: int) -> int:
    """Return the units on the next ``step`` rows below, or ``NONE`` where there are no more rows."""
    if low == first:
        return NONE
    return int(profile[low - 1] + (profile[low - 2] if step == 2 and low - 2 >= first else 0))


@numba.njit(cache=True, nogil=True)
def find_value_area(profile: Ints, first: int, last: int, vpoc: int, total: int, rule: Rule) -> tuple[int, int, int]:
    """Return (lowest row, highest row, units) of the value area, grown from ``vpoc`` until it holds the share."""
    low = high = vpoc
    units, step = profile[vpoc], rule.step
    above = _units_above(profile, high, last, step)
    below = _units_below(profile, low, first, step)
    while rule.share_den * units < rule.share_num * total:
        if above >= below:
            high = min(high + step, last)
            units += above
            above = _units_above(profile, high, last, step)
        else:
            low = max(low - step, first)
            units += below
            below = _units_below(profile, low, first, step)
    return low, high, units


@numba.njit(cache=True, nogil=True, inline="always")
def _spread(low: int, high: int, close: int, volume: int, spread: int) -> tuple[int, int, int, int]:
    """Return the units of a bar on its rows as (flat, rise, fall, units at the close).

    A row below the close gets ``flat + rise * (row - low + 1)`` units, a row above it
    ``flat + fall * (high - row + 1)``, both rounded down. The close gets the rest. UNIFORM: every row gets ``flat``.
    CLOSE_ONLY: the close gets everything. TRIANGULAR: equal steps from each end up to the close. With a rows up to the
    close and b rows from it on, the steps are 2 / (a * (a + b)) and 2 / (b * (a + b)) of the volume.
    """
    units, lower, upper = volume * SCALE, close - low + 1, high - close + 1
    flat = rise = fall = 0
    if spread == UNIFORM:
        flat = units // (high - low + 1)
    elif spread == TRIANGULAR:
        rise, fall = 2 * units // (lower * (lower + upper)), 2 * units // (upper * (lower + upper))
    ramps = rise * (lower * (lower - 1) // 2) + fall * (upper * (upper - 1) // 2)
    return flat, rise, fall, units - flat * (high - low) - ramps


@numba.njit(cache=True, nogil=True)
def spread_bars(bars: TickBars, spread: int) -> Ints:
    """Return ``_spread`` of every bar, shape (bars, 4)."""
    shares = np.empty((bars.low.size, 4), np.int64)
    for bar in range(bars.low.size):
        flat, rise, fall, rest = _spread(bars.low[bar], bars.high[bar], bars.close[bar], bars.volume[bar], spread)
        shares[bar, 0], shares[bar, 1], shares[bar, 2], shares[bar, 3] = flat, rise, fall, rest
    return shares


@numba.njit(cache=True, nogil=True)
def _add_differences(difference: Ints, low: int, high: int, close: int, volume: int, spread: int) -> None:
    """Add one bar to a difference array, whose running sum is the profile: a level then takes two writes."""
    flat, rise, fall, peak = _spread(low, high, close, volume, spread)
    difference[low] += flat
    difference[high + 1] -= flat
    difference[close] += peak - flat
    difference[close + 1] -= peak - flat
    if rise | fall:
        for row in range(low, close):
            difference[row] += rise
        difference[close] -= rise * (close - low)
        difference[close + 1] += fall * (high - close)
        for row in range(close + 1, high + 1):
            difference[row + 1] -= fall


@numba.njit(cache=True, nogil=True)
def session_profile(bars: TickBars, spread: int) -> Ints:
    """Return the units on each tick from the lowest low to the highest high of the bars."""
    low, high, close, volume, _ = bars
    base = low.min()
    profile = np.zeros(high.max() - base + 2, np.int64)
    for bar in range(low.size):
        _add_differences(profile, low[bar] - base, high[bar] - base, close[bar] - base, volume[bar], spread)
    return np.cumsum(profile)[:-1]


@numba.njit(cache=True, nogil=True)
def span_levels(bars: TickBars, begins: Ints, ends: Ints, rule: Rule) -> Ints:
    """Return one row per span of bars begin..end-1: VPOC, VAH, VAL in ticks and the units of the value area."""
    low, high, close, volume, _ = bars
    base = low.min()
    profile = np.zeros(high.max() - base + 2, np.int64)
    levels = np.empty((begins.size, 4), np.int64)
    for span in range(begins.size):
        begin, end = begins[span], ends[span]
        first, last = low[begin:end].min() - base, high[begin:end].max() - base
        profile[first : last + 2] = 0
        for bar in range(begin, end):
            _add_differences(profile, low[bar] - base, high[bar] - base, close[bar] - base, volume[bar], rule.spread)
        total = profile[first]
        for row in range(first + 1, last + 1):
            profile[row] += profile[row - 1]
            total += profile[row]
        vpoc = find_vpoc(profile, first, last)
        val, vah, units = find_value_area(profile, first, last, vpoc, total, rule)
        levels[span] = (base + vpoc, base + vah, base + val, units)
    return levels


def session_levels(bars: TickBars, rule: Rule) -> Ints:
    """Return one row per session: VPOC, VAH, VAL in ticks and the units of the value area."""
    return np.asarray(span_levels(bars, bars.starts[:-1].copy(), bars.starts[1:].copy(), rule))


# ---------------------------------------------------------------- levels at every bar
#
# The growth of a value area is a merge of two sequences. A block is ``step`` rows, counted from the VPOC outwards.
# up[k] is the minimum of the first k blocks above the VPOC, down[k] of those below. The area takes blocks in
# descending order of up and down, and of equal values those above first. Reason: while one side waits before a light
# block, the heavier blocks of the other side are taken, and the blocks behind the light block follow it at once, as if
# they were as light. So a pair (blocks above, blocks below) lies on the path of growth if and only if the last block
# taken on each side comes before the next block of the other side.
#
# The area after a bar is found from the area before it. First repair up and down where the bar changed them, then step
# back onto the path, drop blocks that are no longer needed, and take blocks that are. The area is rebuilt from the
# VPOC only when the VPOC moves, about 16 times per session.
#
# The last block may reach beyond the range, where nothing trades. The state of a session is in plain variables, and
# the functions of its loop are inlined. Measured: a bar takes 50 ns this way, 65 ns with calls, and 230 ns with the
# arrays in a tuple, because numba then counts their references.


@numba.njit(cache=True, nogil=True, inline="always")
def _block(profile: Ints, vpoc: int, side: int, step: int, block: int) -> int:
    """Return the units of a block. Beyond the range there is always one empty row."""
    near = vpoc + side * (step * (block - 1) + 1)
    return int(profile[near] + profile[near + side] if step == 2 else profile[near])


@numba.njit(cache=True, nogil=True, inline="always")
def _repair_minima(least: Ints, profile: Ints, vpoc: int, side: int, step: int, near: int, far: int, end: int) -> None:
    """Update the minima of one side after the rows at distance ``near..far`` from the VPOC changed.

    The side is ``end`` rows long. Blocks behind the changed ones are unchanged, so the repair ends at the first
    minimum behind them that is unchanged too.
    """
    if far < 0:
        return
    shift = step - 1  # a division by 1 or 2 as a shift
    begin, changed, blocks = max(1, (near + shift) >> shift), (far + shift) >> shift, (end + shift) >> shift
    least[0], least[blocks + 1] = ANY, NONE
    running = least[begin - 1]
    for block in range(begin, blocks + 1):
        running = min(running, _block(profile, vpoc, side, step, block))
        if block > changed and least[block] == running:
            break
        least[block] = running


@numba.njit(cache=True, nogil=True, inline="always")
def _settle(
    up: Ints, down: Ints, profile: Ints, vpoc: int, rule: Rule, total: int, above: int, below: int, units: int
) -> tuple[int, int, int]:
    """Return (blocks above, blocks below, units) where growth ends: step back onto its path, then shrink, then grow."""
    step, scale, needed = rule.step, rule.share_den, rule.share_num * total
    while (
        down[below] <= up[above + 1] or up[above] < down[below + 1]
    ):  # a last block comes after the next one of the other side
        side = 1 if down[below] > up[above + 1] else -1
        units -= _block(profile, vpoc, side, step, above if side == 1 else below)
        above, below = (above - 1, below) if side == 1 else (above, below - 1)
    while above + below > 0:  # of the two last blocks the lighter one was taken last, on a tie the lower
        side = 1 if up[above] < down[below] else -1
        rest = units - _block(profile, vpoc, side, step, above if side == 1 else below)
        if scale * rest < needed:
            break
        above, below, units = (above - 1, below, rest) if side == 1 else (above, below - 1, rest)
    while scale * units < needed:
        side = 1 if up[above + 1] >= down[below + 1] else -1
        above, below = (above + 1, below) if side == 1 else (above, below + 1)
        units += _block(profile, vpoc, side, step, above if side == 1 else below)
    return above, below, units


@numba.njit(cache=True, nogil=True, inline="always")
def _add_bar(
    profile: Ints, low: int, high: int, close: int, volume: int, spread: int,
    vpoc: int, peak: int, tied: bool, bottom: int, top: int,
) -> tuple[int, int, bool, int]:  # fmt: skip
    """Add one bar; return the VPOC, its units, whether another row ties with it, and the units added to bottom..top.

    Volume only grows, so only a row inside the bar can become the new VPOC.
    """
    flat, rise, fall, rest = _spread(low, high, close, volume, spread)
    gained = flat * max(0, min(high, top) - max(low, bottom) + 1)
    gained += rest - flat if bottom <= close <= top else 0
    profile[close] += rest - flat
    if rise | fall:
        for row in range(low, high + 1):
            step = 0 if row == close else rise * (row - low + 1) if row < close else fall * (high - row + 1)
            profile[row] += step
            gained += step if bottom <= row <= top else 0
    for row in range(low, high + 1):
        held = profile[row] + flat
        profile[row] = held
        if held > peak:
            vpoc, peak, tied = row, held, False
        elif held == peak and row != vpoc:
            tied = True
    return vpoc, peak, tied, gained


@numba.njit(cache=True, nogil=True)
def _extend_session(
    up: Ints, down: Ints, profile: Ints, first: int, last: int, bars: TickBars, begin: int, end: int, base: int,
    rule: Rule, levels: Ints,
) -> None:  # fmt: skip
    """Write VPOC, VAH and VAL after each of the bars ``begin..end-1`` of a session with range ``first..last``."""
    step, held = rule.step, profile[first : last + 1]
    vpoc, before = find_vpoc(profile, first, last), NONE
    peak, total, tied = profile[vpoc], held.sum(), (held == profile[vpoc]).sum() > 1
    above, below, units = 0, 0, peak
    for bar in range(begin, end):
        low, high, close, volume = bars.low[bar] - base, bars.high[bar] - base, bars.close[bar] - base, bars.volume[bar]
        # empty rows between the range and a bar beyond it join the profile too
        near, far = min(low, last + 1), max(high, first - 1)
        first, last, total = min(first, low), max(last, high), total + volume * SCALE
        bottom, top = vpoc - step * below, vpoc + step * above
        vpoc, peak, tied, gained = _add_bar(
            profile, low, high, close, volume, rule.spread, vpoc, peak, tied, bottom, top
        )
        if tied:  # the middle of the range decides ties, and it moves with the range
            vpoc = find_vpoc(profile, first, last)
        if vpoc != before:
            above, below, units, gained, near, far = 0, 0, peak, 0, first, last
        _repair_minima(up, profile, vpoc, 1, step, near - vpoc, far - vpoc, last - vpoc)
        _repair_minima(down, profile, vpoc, -1, step, vpoc - far, vpoc - near, vpoc - first)
        above, below, units = _settle(up, down, profile, vpoc, rule, total, above, below, units + gained)
        before, levels[bar, 0] = vpoc, base + vpoc
        levels[bar, 1] = base + min(vpoc + step * above, last)
        levels[bar, 2] = base + max(vpoc - step * below, first)


@numba.njit(cache=True, nogil=True)
def extend_levels(bars: TickBars, rule: Rule, base: int, profile: Ints, first: int, last: int) -> Ints:
    """Return one row per bar: VPOC, VAH, VAL in ticks of its session up to and including it.

    Args:
        bars: at least one.
        rule: the rule of the value area and the spread.
        base: tick of ``profile[0]``, below every tick of the bars.
        profile: units of the session so far, zero elsewhere, with an empty row at either end. It is overwritten with
            the units of the last session.
        first, last: the rows of that session's range so far; ``first > last`` if the session begins with ``bars``.
    """
    levels = np.empty((bars.low.size, 3), np.int64)
    up, down = np.empty(profile.size + 2, np.int64), np.empty(profile.size + 2, np.int64)
    for session in range(bars.starts.size - 1):
        begin, end = bars.starts[session], bars.starts[session + 1]
        if session > 0 or first > last:
            profile[:] = 0
            first = last = bars.low[begin] - base
        _extend_session(up, down, profile, first, last, bars, begin, end, base, rule, levels)
    return levels


def volume_at_or_below(bars: TickBars, spread: int, vpoc: Ints) -> Ints:
    """Return, one row per bar: units at the VPOC, units at or below the close, and all units of the session so far.

    Args:
        bars: bars of complete sessions, each from its first bar on.
        spread: how the volume of a bar is spread over its ticks.
        vpoc: the developing VPOC at every bar, in ticks.
    """
    if not bars.low.size:
        return np.empty((0, 3), np.int64)
    return np.asarray(_follow_close(*bars, spread_bars(bars, spread), vpoc, SCALE))


@numba.njit(cache=True, nogil=True)
def _follow_close(
    low: Ints, high: Ints, close: Ints, volume: Ints, starts: Ints, shares: Ints, vpoc: Ints, scale: int
) -> Ints:
    """Keep the units at or below one row, the last close: a bar adds to them, then the row moves to its close.

    ``shares`` is the result of ``spread_bars``, ``scale`` the units of one contract.
    """
    found = np.empty((low.size, 3), np.int64)
    base = low.min()
    profile = np.zeros(high.max() - base + 1, np.int64)
    for session in range(starts.size - 1):
        profile[:] = 0
        total, under, at = 0, 0, close[starts[session]] - base
        for bar in range(starts[session], starts[session + 1]):
            bottom, top, last = low[bar] - base, high[bar] - base, close[bar] - base
            flat, rise, fall, peak = shares[bar, 0], shares[bar, 1], shares[bar, 2], shares[bar, 3]
            for row in range(bottom, top + 1):
                profile[row] += flat
            profile[last] += peak - flat
            under += flat * max(0, min(top, at) - bottom + 1) + (peak - flat if last <= at else 0)
            if rise | fall:
                for row in range(bottom, top + 1):
                    step = 0 if row == last else rise * (row - bottom + 1) if row < last else fall * (top - row + 1)
                    profile[row] += step
                    under += step if row <= at else 0
            total += volume[bar] * scale
            while at < last:
                at += 1
                under += profile[at]
            while at > last:
                under -= profile[at]
                at -= 1
            found[bar, 0], found[bar, 1], found[bar, 2] = profile[vpoc[bar] - base], under, total
    return found
