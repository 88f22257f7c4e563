"""A market that nothing can predict: neither where the price goes nor, at the end of an hour, how far.

Closes are a martingale on the tick grid: a minute moves by floor(x + u), x symmetric about zero, u uniform, so its
mean is zero whatever happened before. Volatility is drawn anew for every hour of a session, independently of all
else. So at the end of an hour the size of the next hour's move is independent of the past too, given the time of
day, and a feature that goes with it knows the future. In a market whose volatility clusters, as the real one's does,
honest volatility features predict the size of moves and no test could tell them from a leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.history import HISTORY_SESSIONS, Predecessor
from vpoc_ml.ingest.vix.vix_closes import available_at, join_vix
from vpoc_ml.leakage.market import Market
from vpoc_ml.leakage.random_markets import START, SYMBOL, VIX_MINUTE, Path, canonical
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.synthetic.intraday_curves import curves

LAST = "ESZ25"
HOUR = 60
OPEN_IN_NEW_YORK = 18 * 60
"""Minute of the New York day at which a session opens."""
_SESSION_TICKS, _GAP_TICKS = 200.0, 40.0
_HOURLY = 0.5
"""Standard deviation of the logarithm of an hour's volatility."""
_DAILY_CONTRACTS = 1.5e6

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Walked(NamedTuple):
    path: Path
    fixings: Floats


def martingale(contracts: int, seed: int, last: str = LAST) -> Iterator[Market]:
    """Yield the front periods of ``contracts`` quarterly contracts, the last one first known as ``last``.

    Each begins at the same price level as the others, so the roll has a gap; the predecessor carries the true ratio.
    """
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    chain = [parse_contract(last)]
    while len(chain) < contracts:
        chain.insert(0, chain[0].previous)
    closes, before = _Vix(), None
    for contract in chain:
        table = sessions(es.calendar, contract.previous.scheduled_roll, contract.scheduled_roll)
        table = table.filter(pl.col("session") < contract.scheduled_roll)
        walked = _walk(table, draw)
        vix = closes.extended(table["session"].to_list(), walked.fixings, draw)
        bars = join_vix(canonical(walked.path, table, contract.code, es), vix)
        yield Market(bars, vix, es, before)
        before = _as_predecessor(bars, table, contract, es, int(walked.path.close[-1]))


def _as_predecessor(
    bars: pl.DataFrame, table: pl.DataFrame, contract: Contract, es: Instrument, last: int
) -> Predecessor:
    recent = bars.filter(pl.col("session") >= table["session"][-HISTORY_SESSIONS])
    return Predecessor(recent, build_sessions(recent, es, ProfileConfig()), START / last, contract.scheduled_roll)


def _walk(table: pl.DataFrame, draw: np.random.Generator) -> _Walked:
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
    reach = np.rint(np.abs(draw.standard_normal((2, day.size))) * (0.5 + 0.4 * deviation)).astype(np.int64)
    noise = np.exp(0.35 * draw.standard_normal(day.size))
    volume = np.maximum(np.rint(_DAILY_CONTRACTS * share * level * noise), 1).astype(np.int64)
    high, low = np.maximum(opened, close) + reach[0], np.minimum(opened, close) - reach[1]
    known = first + np.minimum(lengths, VIX_MINUTE) - 1  # the last bar that is closed when the VIX is published
    return _Walked(Path(day, minute, opened, high, low, close, volume), close[known].astype(np.float64))


class _Vix:
    """VIX closes that fall when the price rises, as the true ones do."""

    def __init__(self) -> None:
        self._log, self._days, self._closes = 0.0, list[date](), list[float]()

    def extended(self, days: list[date], fixings: Floats, draw: np.random.Generator) -> pl.DataFrame:
        """Return all closes so far, after those of ``days``; ``fixings`` are the prices when they are published."""
        returns = np.diff(np.log(fixings), prepend=np.log(START))
        for day, change in zip(days, returns, strict=True):
            self._log = 0.95 * self._log - 5.0 * float(change) + 0.04 * float(draw.standard_normal())
            self._days.append(day)
            self._closes.append(round(19.0 * float(np.exp(self._log)), 2))
        frame = pl.DataFrame({"date": self._days, "close": self._closes}, schema_overrides={"date": pl.Date})
        return frame.with_columns(available_at("date").alias("available_at"))
