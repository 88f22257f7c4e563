"""What a builder is given, and the changes made to it: cut off, disturbed after a bar, its past rescaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.features.history import Predecessor
from vpoc_ml.ingest.vix.vix_closes import join_vix
from vpoc_ml.market.instruments import Instrument

PRICES = ("open", "high", "low", "close")
LEVELS = ("vpoc", "vah", "val")


@dataclass(frozen=True)
class Market:
    """One contract: canonical ``bars``, the VIX closes (date, close, available_at), and the contract before it.

    ``vix`` is None where bars and features have none. ``pair`` has ts (START) and close of another instrument, which a
    close of the same minute may know. ``covariates`` are further indices by column, each like ``vix``.
    """

    bars: pl.DataFrame
    vix: pl.DataFrame | None
    instrument: Instrument
    predecessor: Predecessor | None = None
    pair: pl.DataFrame | None = None
    covariates: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of bars."""
        return self.bars.height

    @property
    def roll(self) -> int:
        """Row of the first bar as the front contract; 0 without predecessor."""
        if self.predecessor is None:
            return 0
        return int(self.bars["session"].search_sorted(self.predecessor.first_session))

    def head(self, rows: int) -> Market:
        """Return what was known when bar ``rows - 1`` closed: no later bar, and no VIX close it could not use."""
        bars = self.bars.head(rows)
        last = bars["ts"][-1]
        pair = None if self.pair is None else self.pair.filter(pl.col("ts") <= last)
        vix = None if self.vix is None else self.vix.filter(pl.col("available_at") < last)
        known = {name: each.filter(pl.col("available_at") < last) for name, each in self.covariates.items()}
        return replace(self, bars=bars, vix=vix, pair=pair, covariates=known)


Build = Callable[[Market, int | None], pl.DataFrame]
"""Features of a market: ``ts, contract, session`` and a float column a feature, one row a bar.

The number is the rows of a chunk: the builder gets through the bars so many at a time; None: all at once.
"""


def disturbed_after(market: Market, row: int, seed: int) -> Market:
    """Return the market with other prices, volumes, VIX closes and closes of the pair after bar ``row``.

    Every later bar is moved by its own whole number of ticks and gets another volume; every VIX close that bar
    ``row`` could not use yet is another one.
    """
    draw = np.random.default_rng([seed, row])
    count = market.rows - row - 1
    ticks = np.concatenate((np.zeros(row + 1, np.int64), draw.integers(20, 400, count) * draw.choice([-1, 1], count)))
    added = np.concatenate((np.zeros(row + 1, np.int64), draw.integers(1, 5000, count)))
    bars = moved(market.bars, ticks, market.instrument).with_columns(pl.col("volume") + pl.Series(added))
    unknown = pl.col("available_at") >= market.bars["ts"][row]
    pair = None if market.pair is None else _drifted_after(market.pair, market.bars["ts"][row])
    moved_too = {
        name: each.with_columns(close=pl.when(unknown).then(pl.col("close") * 1.5 + 1).otherwise("close"))
        for name, each in market.covariates.items()
    }
    disturbed = replace(market, bars=bars, pair=pair, covariates=moved_too)
    if market.vix is None:
        return disturbed
    factor = pl.Series(draw.uniform(1.2, 2.0, market.vix.height))
    close = pl.when(unknown).then(pl.col("close") * factor).otherwise("close")
    return with_vix(disturbed, market.vix.with_columns(close=close))


def _drifted_after(pair: pl.DataFrame, ts: datetime) -> pl.DataFrame:
    later = pl.col("ts") > ts
    return pair.with_columns(close=pl.col("close") * (1 + 0.01 * later.cum_sum().clip(0, 20)))


def moved(bars: pl.DataFrame, ticks: NDArray[np.int64], instrument: Instrument) -> pl.DataFrame:
    """Return the bars with all four prices of each moved by its number of ticks."""
    step = pl.Series(ticks * instrument.tick_size)
    return bars.with_columns(pl.col(name) + step for name in PRICES)


def with_vix(market: Market, vix: pl.DataFrame) -> Market:
    """Return the market with other VIX closes, and in every bar the one published before it."""
    return replace(market, vix=vix, bars=join_vix(market.bars.drop("vix"), vix))


def rescaled(predecessor: Predecessor, factor: float) -> Predecessor:
    """Return the predecessor quoted in other prices, with the ratio that takes the change back.

    A power of two is exact: the adjusted past is then the same to the last bit.
    """
    bars = predecessor.bars.with_columns(pl.col(name) * factor for name in PRICES)
    quoted = [name for name in (*PRICES, *LEVELS) if name in predecessor.sessions.columns]
    sessions = predecessor.sessions.with_columns(pl.col(name) * factor for name in quoted)
    return replace(predecessor, bars=bars, sessions=sessions, ratio=predecessor.ratio / factor)
