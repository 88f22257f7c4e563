"""High and low volume nodes: the hills and valleys of a profile that stand out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.signal import find_peaks, peak_prominences

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import SCALE, Ints, session_profile
from vpoc_ml.profile.ticks import SPREADS, tick_bars

KERNEL = np.array([1, 2, 3, 2, 1], np.int64)
"""Weights of the smoothing; nine ninths. The ninths are never divided out: all comparisons are of integers."""

NUMERATOR, DENOMINATOR = 3, 20
"""A node's prominence is at least 15 % of the smoothed maximum."""


class Node(NamedTuple):
    """A node's row and its prominence in ninths of a unit, the height it stands out by."""

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
        ``kind`` (hvn or lvn), ``price`` in points, ``volume``, the contracts at that price as it is, and
        ``prominence``, the smoothed height it stands out by in contracts. Empty without bars or volume.

    Raises:
        ArtifactError: bars of several contracts, out of order, or contradictory.
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

    The smoothed profile is [1, 2, 3, 2, 1] / 9 of the units around each row, with nothing beyond the range. A hill's
    prominence is its height above the higher of the two deepest points on the way to higher ground, beyond the range
    at zero; a valley's the same upside down, within the range. A flat top counts once, at its middle, rounded down.
    """
    smooth = np.convolve(units, KERNEL, "same") if units.size >= KERNEL.size else np.convolve(units, KERNEL)[2:-2]
    least = NUMERATOR * int(smooth.max())
    if least == 0:
        return []
    # doubles hold integers below 2**53 exactly; 5 million contracts in ninths of a unit are 2**45
    hills = _prominent(np.pad(smooth, 1).astype(np.float64), least)
    found = [Node("hvn", row - 1, prominence) for row, prominence in hills]
    found += [Node("lvn", row, prominence) for row, prominence in _prominent(-smooth.astype(np.float64), least)]
    return sorted(found, key=lambda node: node.row)


def _prominent(heights: np.ndarray, least: int) -> list[tuple[int, int]]:
    peaks, _ = find_peaks(heights)
    prominences = peak_prominences(heights, peaks)[0].astype(np.int64)
    return [
        (row, prominence)
        for row, prominence in zip(peaks.tolist(), prominences.tolist(), strict=True)
        if DENOMINATOR * prominence >= least
    ]
