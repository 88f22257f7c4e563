"""Paths of bars in ticks for markets of the leakage checks: a random walk and a martingale.

The same arguments and the same generator give the same path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.market.instruments import Instrument
from vpoc_ml.synthetic.price_path import curves

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

START = 20_000
"""First close of a market in ticks."""
HOUR = 60
"""Minutes for which the volatility of a martingale is constant."""
OPEN_IN_NEW_YORK = 18 * 60
"""Minute of the New York day at which a session opens."""
_COLUMNS = ("ts", "contract", "session", "rth", "open", "high", "low", "close", "volume")
_SESSION_TICKS, _GAP_TICKS = 200.0, 40.0
_HOURLY = 0.5
"""Standard deviation of the logarithm of an hour's volatility."""
_DAILY_CONTRACTS = 1.5e6


@dataclass(frozen=True)
class BarPath:
    """Bars as arrays with one entry per bar.

    ``day`` is the row of the bar's session in the table of sessions, ``minute`` the minutes since its open. Prices are
    in ticks, volume in contracts.
    """

    day: Ints
    minute: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints

    def canonical_bars(self, table: pl.DataFrame, contract: str, instrument: Instrument) -> pl.DataFrame:
        """Return the canonical bars without ``vix``; ``table`` as ``exchange_calendar.sessions`` returns it."""
        hours = table.select(pl.int_range(pl.len()).alias("day"), "session", "rth_open", "rth_close", opened="open")
        prices = {name: getattr(self, name) * instrument.tick_size for name in ("open", "high", "low", "close")}
        rows = pl.DataFrame({"day": self.day, "minute": self.minute, **prices, "volume": self.volume})
        ts = (pl.col("opened") + pl.duration(minutes="minute")).dt.cast_time_unit("us")
        rows = rows.join(hours, on="day", how="left", maintain_order="left").with_columns(ts=ts)
        inside = pl.col("ts").is_between("rth_open", "rth_close", closed="left").fill_null(value=False)
        return rows.with_columns(rth=inside, contract=pl.lit(contract)).select(_COLUMNS)


def random_path(
    minutes: Sequence[Ints], draw: np.random.Generator, *, rough: bool = False, start: int = START
) -> BarPath:
    """Return a random walk over the given minutes of each session.

    Args:
        minutes: for each session, the minutes since its open that have a bar.
        draw: generator of the walk.
        rough: whether the walk has minutes without a move, stretches without a trade and jumps between sessions.
        start: first price in ticks.
    """
    sizes = np.array([each.size for each in minutes])
    day, minute = np.repeat(np.arange(sizes.size), sizes), np.concatenate(minutes)
    steps = draw.integers(-6, 7, day.size)
    volume = draw.integers(1, 400, day.size)
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    steps[first] += draw.integers(-40, 41, sizes.size)
    if rough:
        steps = steps * (draw.random(steps.size) < 0.6)
        volume = volume * (draw.random(volume.size) < 0.8)
        for at in first[2::5]:
            steps[at + 10 : at + 45] = 0  # no move for longer than a window
        for at in first[3::5]:
            volume[at : at + 35] = 0  # no trade after the open for longer than a window
    close = start + np.cumsum(steps)
    opened = close - draw.integers(-2, 3, close.size)
    return BarPath(
        day=day,
        minute=minute,
        open=opened,
        high=np.maximum(opened, close) + draw.integers(0, 5, close.size),
        low=np.minimum(opened, close) - draw.integers(0, 5, close.size),
        close=close,
        volume=volume,
    )


def martingale_path(table: pl.DataFrame, draw: np.random.Generator) -> BarPath:
    """Return a martingale over every minute of the sessions of ``table``.

    A minute moves by floor(x + u), x symmetric about zero and u uniform, so its mean is zero whatever happened before.
    Each hour of a session draws its own volatility, independently of everything else.
    """
    lengths = table["minutes"].to_numpy().astype(np.int64)
    day = np.repeat(np.arange(lengths.size), lengths)
    first = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    minute = np.arange(day.size) - first[day]
    share, shape = (curve[(minute + OPEN_IN_NEW_YORK) % 1440] for curve in curves())
    level = np.exp(_HOURLY * draw.standard_normal((lengths.size, 24)))[day, minute // HOUR]
    deviation = _SESSION_TICKS * shape * level
    steps = np.floor(deviation * draw.standard_normal(day.size) + draw.random(day.size)).astype(np.int64)
    gap = np.rint(_GAP_TICKS * draw.standard_normal(lengths.size)).astype(np.int64)
    gap[0] = 0
    steps[first] += gap
    close = START + np.cumsum(steps)
    opened = close - steps
    opened[first] += gap
    spread = np.rint(np.abs(draw.standard_normal((2, day.size))) * (0.5 + 0.4 * deviation)).astype(np.int64)
    noise = np.exp(0.35 * draw.standard_normal(day.size))
    volume = np.maximum(np.rint(_DAILY_CONTRACTS * share * level * noise), 1).astype(np.int64)
    high, low = np.maximum(opened, close) + spread[0], np.minimum(opened, close) - spread[1]
    return BarPath(day, minute, opened, high, low, close, volume)
