"""The slow reference of the volume profile: dictionaries and fractions, one rule after the other.

This is the definition the kernels are tested against; nothing else calls it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from vpoc_ml.profile.kernels import SCALE


class Bar(NamedTuple):
    """One bar: ticks and contracts."""

    low: int
    high: int
    close: int
    volume: int


class Levels(NamedTuple):
    """VPOC and value area in ticks, and the units the area holds."""

    vpoc: int
    vah: int
    val: int
    va_units: int


def spread_of(bar: Bar, spread: str = "uniform") -> dict[int, int]:
    """Return the units of one bar on each of its ticks; what rounding down leaves goes to the close.

    ``triangular``: a tick below the close gets its distance from below the low, in equal steps whose sum with the
    close's share makes a triangle of the bar's volume: ``2 / ((close - low + 1) * (ticks + 1))`` each; above likewise.
    """
    total, ticks = bar.volume * SCALE, range(bar.low, bar.high + 1)
    given = dict.fromkeys(ticks, 0)
    if spread == "uniform":
        given = dict.fromkeys(ticks, total // len(ticks))
    elif spread == "triangular":
        rise = math.floor(Fraction(2 * total, (bar.close - bar.low + 1) * (len(ticks) + 1)))
        fall = math.floor(Fraction(2 * total, (bar.high - bar.close + 1) * (len(ticks) + 1)))
        given |= {tick: rise * (tick - bar.low + 1) for tick in ticks if tick < bar.close}
        given |= {tick: fall * (bar.high - tick + 1) for tick in ticks if tick > bar.close}
    given[bar.close] += total - sum(given.values())
    return given


def profile_of(bars: Iterable[Bar], spread: str = "uniform") -> dict[int, int]:
    """Return the units on every tick from the lowest low to the highest high."""
    units: dict[int, int] = {}
    for bar in bars:
        for tick, given in spread_of(bar, spread).items():
            units[tick] = units.get(tick, 0) + given
    return {tick: units.get(tick, 0) for tick in range(min(units), max(units) + 1)}


def vpoc_of(profile: dict[int, int]) -> int:
    """Return the tick with the most units; ties: nearest the middle of the range, then the lower."""
    middle = Fraction(min(profile) + max(profile), 2)
    return min(profile, key=lambda tick: (-profile[tick], abs(tick - middle), tick))


def value_area_of(profile: dict[int, int], share: Fraction, step: int) -> Levels:
    """Grow the value area from the VPOC, ``step`` prices at a time, until it holds ``share`` of all units."""
    vpoc = vpoc_of(profile)
    inside = [vpoc]
    while sum(profile[tick] for tick in inside) < share * sum(profile.values()):
        above = [tick for tick in range(max(inside) + 1, max(inside) + 1 + step) if tick in profile]
        below = [tick for tick in range(min(inside) - step, min(inside)) if tick in profile]
        inside += _heavier(profile, above, below)
    return Levels(vpoc, max(inside), min(inside), sum(profile[tick] for tick in inside))


def _heavier(profile: dict[int, int], above: Sequence[int], below: Sequence[int]) -> Sequence[int]:
    if not above or not below:
        return above or below
    return above if sum(profile[tick] for tick in above) >= sum(profile[tick] for tick in below) else below


def levels_of(bars: Sequence[Bar], share: Fraction, step: int, spread: str = "uniform") -> Levels:
    """Return the levels of one session's bars."""
    return value_area_of(profile_of(bars, spread), share, step)


def developing_levels_of(bars: Sequence[Bar], share: Fraction, step: int, spread: str = "uniform") -> list[Levels]:
    """Return the levels after each bar, every one computed from the first bar again."""
    return [levels_of(bars[: count + 1], share, step, spread) for count in range(len(bars))]
