"""Volume profiles of other libraries for the same bars. The extra ``bench`` pins their versions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

import numpy as np
import polars as pl

from vpoc_ml.profile import kernels
from vpoc_ml.profile.kernels import SCALE, TickBars

TICK = 0.25
BINS = 200
ROLLING = 20_000
"""Bars given to the rolling peers, which take 10 to 20 us per bar."""


def version(name: str) -> str | None:
    """Return the installed version of a package, None if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def value_area(units: np.ndarray) -> tuple[int, int, int]:
    """VPOC, VAH, VAL of an array of units, the two-price rule in plain Python."""
    vpoc = kernels.find_vpoc.py_func(units, 0, units.size - 1)
    low = high = vpoc
    held, target = int(units[vpoc]), -(-7 * int(units.sum()) // 10)
    while held < target:
        above = int(units[high + 1 : high + 3].sum()) if high < units.size - 1 else -1
        below = int(units[max(low - 2, 0) : low].sum()) if low else -1
        if above >= below:
            high, held = min(high + 2, units.size - 1), held + above
        else:
            low, held = max(low - 2, 0), held + below
    return vpoc, high, low


def numpy_profile(low: np.ndarray, high: np.ndarray, close: np.ndarray, volume: np.ndarray) -> tuple[int, int, int]:
    """A difference array filled by ``np.add.at``, then the value area in Python."""
    base, rows = low.min(), high - low + 1
    share, edges = volume * SCALE // rows, np.zeros(high.max() - low.min() + 2, np.int64)
    rest = volume * SCALE - share * rows
    for at, units in ((low, share), (high + 1, -share), (close, rest), (close + 1, -rest)):
        np.add.at(edges, at - base, units)
    return tuple(base + row for row in value_area(np.cumsum(edges)[:-1]))


def numpy_sessions(ticks: TickBars) -> np.ndarray:
    parts = (slice(*pair) for pair in zip(ticks.starts[:-1], ticks.starts[1:], strict=True))
    return np.array([numpy_profile(*(column[part] for column in ticks[:4])) for part in parts])


def polars_frame(ticks: TickBars) -> pl.DataFrame:
    sizes = np.diff(ticks.starts)
    columns = dict(zip(("low", "high", "close", "volume"), ticks[:4], strict=True))
    return pl.DataFrame({"session": np.repeat(np.arange(sizes.size), sizes), **columns})


def polars_sessions(bars: pl.DataFrame) -> np.ndarray:
    """Sum one row per bar and price, then merge the block minima of both sides. No Python loop."""
    low, high, close = pl.col("low"), pl.col("high"), pl.col("close")
    rows, total = high - low + 1, pl.col("volume") * SCALE
    even = bars.lazy().select("session", pl.int_ranges(low, high + 1).alias("tick"), (total // rows).alias("units"))
    rest = bars.lazy().select("session", close.alias("tick"), (total - total // rows * rows).alias("units"))
    visited = bars.lazy().group_by("session").agg(low.min(), high.max())
    empty = visited.select("session", pl.int_ranges(low, high + 1).alias("tick"), pl.lit(0, pl.Int64).alias("units"))
    parts = [even.explode("tick"), rest, empty.explode("tick")]
    profile = pl.concat(parts).group_by("session", "tick").agg(pl.col("units").sum()).collect().lazy()
    units, tick = pl.col("units"), pl.col("tick")
    middle = (2 * tick - tick.min().over("session") - tick.max().over("session")).abs()
    best = profile.with_columns(middle.alias("far")).sort("units", "far", "tick", descending=[True, False, False])
    peaks = best.group_by("session", maintain_order=True).agg(
        tick.first().alias("vpoc"), units.first().alias("peak"), units.sum().alias("total"),
        tick.min().alias("low"), tick.max().alias("high"),
    )  # fmt: skip
    away = tick - pl.col("vpoc")
    blocks = (
        profile.join(peaks, on="session")
        .filter(away != 0)
        .group_by("session", (away > 0).alias("up"), ((away.abs() + 1) // 2).alias("block"))
        .agg(units.sum(), pl.col("peak").first(), pl.col("total").first())
        .sort("session", "up", "block")
        .with_columns(units.cum_min().over("session", "up").alias("least"))
        .sort("session", "least", "up", "block", descending=[False, True, True, False])
        .with_columns((pl.col("peak") + units.cum_sum().over("session") - units).alias("before"))
        .filter(10 * pl.col("before") < 7 * pl.col("total"))
        .group_by("session")
        .agg(pl.col("block").filter(side).max().fill_null(0).alias(name) for name, side in _SIDES)
    )
    step = pl.col("above", "below").fill_null(0) * 2
    levels = peaks.join(blocks, on="session", how="left").with_columns(step).select(
        "session", "vpoc", pl.min_horizontal(pl.col("vpoc") + pl.col("above"), "high").alias("vah"),
        pl.max_horizontal(pl.col("vpoc") - pl.col("below"), "low").alias("val"),
    )  # fmt: skip
    return levels.sort("session").drop("session").collect().to_numpy()


_SIDES = (("above", pl.col("up")), ("below", ~pl.col("up")))


def market_profile(ticks: TickBars) -> Callable[[], list]:
    """MarketProfile, one slice per session: all volume at the close, one price at a time."""
    import pandas as pd
    from market_profile import MarketProfile

    prices = {"High": ticks.high, "Low": ticks.low, "Close": ticks.close, "Open": ticks.close}
    times = pd.date_range("2025-01-06", periods=ticks.low.size, freq="min", tz="UTC")
    frame = pd.DataFrame({name: column * TICK for name, column in prices.items()}, index=times)
    frame["Volume"] = ticks.volume
    parts = [frame.iloc[a:b] for a, b in zip(ticks.starts[:-1], ticks.starts[1:], strict=True)]
    return lambda: [
        (found.poc_price, *found.value_area)
        for part in parts
        for found in [MarketProfile(part, tick_size=TICK)[part.index[0] : part.index[-1]]]
    ]


def market_profile_each_bar(ticks: TickBars, minutes: int, every: int) -> tuple[int, Callable[[], list]]:
    """MarketProfile over the first 1, 1 + every, ... bars of one session."""
    counts = range(1, minutes, every)
    works = [
        market_profile(TickBars(*(column[:count] for column in ticks[:4]), np.array([0, count]))) for count in counts
    ]
    return len(works), lambda: [work() for work in works]


def wickra(ticks: TickBars, period: int) -> Callable[[], object]:
    from wickra import ValueArea

    high, low, volume = (np.asarray(column[:ROLLING], np.float64) for column in (ticks.high, ticks.low, ticks.volume))
    return lambda: ValueArea(period, BINS).batch(high * TICK, low * TICK, volume)


def quantwave(ticks: TickBars, period: int) -> Callable[[], object]:
    from quantwave import VolumeProfile

    rows = list(
        zip((ticks.close[:ROLLING] * TICK).tolist(), ticks.volume[:ROLLING].astype(float).tolist(), strict=True)
    )

    def work() -> None:
        profile = VolumeProfile(period, BINS)
        for price, volume in rows:
            profile.next(price, volume)

    return work
