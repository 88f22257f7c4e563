"""The volume on every price of any span of bars, and its high and low volume nodes (HVN, LVN).

A node is a prominent maximum or minimum of the smoothed profile.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InsufficientSessionsError
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, Ints, TickBars, session_profile
from vpoc_ml.profile.tick_bars import SPREADS, tick_bars


class Histogram(NamedTuple):
    """Contracts traded (``volume``) at each tick price (``prices``, ascending, without gaps)."""

    prices: NDArray[np.float64]
    volume: NDArray[np.float64]


def volume_profile(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig | None = None) -> Histogram:
    """Return the contracts on every price from the lowest low to the highest high of ``bars``.

    Args:
        bars: canonical bars of one contract, any span, sorted by ``ts``.
        instrument: gives the tick size.
        config: the spread; the default is uniform.

    Raises:
        InsufficientSessionsError: there are no bars.
        ArtifactError: as ``tick_bars``.
    """
    if bars.is_empty():
        raise InsufficientSessionsError("a volume profile", 0, 1, "a profile is made of bars")
    ticks = tick_bars(bars, instrument)
    units = session_profile(ticks, SPREADS[(config or ProfileConfig()).spread])
    prices = (ticks.low.min() + np.arange(units.size)) * instrument.tick_size
    return Histogram(prices, units / SCALE)


NUMERATOR, DENOMINATOR = 3, 20
"""The prominence of a node is at least 15 % of the smoothed maximum."""


class Node(NamedTuple):
    """Row and prominence of a node; the prominence is in ninths of a unit."""

    kind: str
    row: int
    prominence: int


def build_nodes(bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig) -> pl.DataFrame:
    """Return the HVN and LVN of the profile of ``bars``, any span, low to high.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size.
        config: the spread.

    Returns:
        ``kind`` (hvn or lvn), ``price`` in points, ``volume``, the unsmoothed contracts at that price, and
        ``prominence`` of the smoothed profile in contracts. Empty without bars or volume.

    Raises:
        ArtifactError: as ``tick_bars``.
    """
    rows: list[tuple[str, float, float, float]] = []
    if not bars.is_empty():
        ticks = tick_bars(bars, instrument)
        units, low = session_profile(ticks, SPREADS[config.spread]), int(ticks.low.min())
        for kind, row, prominence in find_nodes(units):
            price = (low + row) * instrument.tick_size
            rows.append((kind, price, int(units[row]) / SCALE, prominence / (9 * SCALE)))
    schema = {"kind": pl.String, "price": pl.Float64, "volume": pl.Float64, "prominence": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def find_nodes(units: Ints) -> list[Node]:
    """Return the nodes of a profile by row.

    The profile is smoothed by [1, 2, 3, 2, 1] / 9, with zero beyond its range. The prominence of a maximum is its
    height above the higher of the two lowest points on the way to a higher row on either side; the profile counts as
    zero beyond its range. The prominence of a minimum is the same upside down, within the range. A flat top counts
    once, at its middle, rounded down.
    """
    smooth = _smooth(units)
    least = NUMERATOR * int(smooth[1:-1].max())
    if least == 0:
        return []
    found = [Node("hvn", row - 1, prominence) for row, prominence in _peaks(smooth, least).tolist()]
    found += [Node("lvn", row, prominence) for row, prominence in _peaks(-smooth[1:-1], least).tolist()]
    return sorted(found, key=lambda node: node.row)


def high_nodes_before(bars: TickBars, spread: int, length: int) -> list[Ints]:
    """Return, for each session, the ticks of the HVN of the composite profile of the ``length`` sessions before it.

    The list is empty for the first ``length`` sessions and for composites without volume. Every other composite has
    at least one HVN, its maximum.
    """
    profiles, found = [], []
    for begin, end in zip(bars.starts[:-1], bars.starts[1:], strict=True):
        own = bars._replace(**{name: getattr(bars, name)[begin:end] for name in ("low", "high", "close", "volume")})
        profiles.append((int(own.low.min()), session_profile(own, spread)))
    for at in range(len(profiles)):
        if at < length:
            found.append(np.empty(0, np.int64))
            continue
        composite = profiles[at - length : at]
        base = min(low for low, _ in composite)
        units = np.zeros(max(low + own.size for low, own in composite) - base, np.int64)
        for low, own in composite:
            units[low - base : low - base + own.size] += own
        smooth = _smooth(units)
        least = NUMERATOR * int(smooth.max())
        found.append(base + _peaks(smooth, least)[:, 0] - 1 if least else np.empty(0, np.int64))
    return found


@numba.njit(cache=True, nogil=True)
def _smooth(units: Ints) -> Ints:
    """Return the profile smoothed by [1, 2, 3, 2, 1], with an empty row at either end.

    The division by 9 is left out, so all comparisons are between integers.
    """
    padded = np.zeros(units.size + 4, np.int64)
    padded[2:-2] = units
    smooth = np.zeros(units.size + 2, np.int64)
    for row in range(units.size):
        at = row + 2
        near, far = padded[at - 1] + padded[at + 1], padded[at - 2] + padded[at + 2]
        smooth[row + 1] = 3 * padded[at] + 2 * near + far
    return smooth


@numba.njit(cache=True, nogil=True)
def _peaks(heights: Ints, least: int) -> Ints:
    """Return (row, prominence) of the prominent maxima; the first and the last row are never one."""
    found, count, row = np.empty((heights.size, 2), np.int64), 0, 1
    while row < heights.size - 1:
        top, end = heights[row], row
        while end < heights.size - 1 and heights[end + 1] == top:
            end += 1
        if heights[row - 1] < top and end < heights.size - 1 and heights[end + 1] < top:
            prominence = top - max(_lowest(heights, row, -1), _lowest(heights, end, 1))
            if DENOMINATOR * prominence >= least:
                found[count, 0], found[count, 1] = (row + end) // 2, prominence
                count += 1
        row = end + 1
    return found[:count]


@numba.njit(cache=True, nogil=True)
def _lowest(heights: Ints, row: int, step: int) -> int:
    """Return the smallest height between a maximum and the next higher row, or the end, in the direction ``step``."""
    lowest, at = heights[row], row
    while 0 <= at < heights.size and heights[at] <= heights[row]:
        lowest = min(lowest, heights[at])
        at += step
    return int(lowest)
