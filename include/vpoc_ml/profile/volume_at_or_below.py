"""Volume at or below each close in the profile of its session so far, in exact units."""

from __future__ import annotations

import numba
import numpy as np

from vpoc_ml.profile.kernels import SCALE, Ints, TickBars, spread_bars


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

    ``scale`` is an argument because the disk cache of a kernel does not notice a changed constant of another file.
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
