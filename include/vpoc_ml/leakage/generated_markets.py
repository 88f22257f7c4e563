"""Markets for the leakage checks: an irregular one, a regular one, two contracts in a row, and a martingale.

Their bars follow a random walk or a martingale in ticks. The same arguments give the same market.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.history import HISTORY_SESSIONS, Predecessor
from vpoc_ml.ingest.vix.vix_closes import available_at, join_vix
from vpoc_ml.leakage.comparison import Market
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.sessions import build_sessions
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


SYMBOL = "ES"
LAST = "ESZ25"
VIX_MINUTE = 1335
"""Minutes from the open to 16:15 New York, when the day's VIX close is published."""


def awkward(
    *, bars: tuple[int, int] = (60, 110), history: int = 30, early: int = 2, front: int = 4, seed: int = 17
) -> Market:
    """Return a contract with ``early`` sessions before it is front and ``front`` sessions after, and its predecessor.

    The predecessor has ``history`` sessions, one of them a half day. A session has a number of bars in the range
    ``bars``, at random minutes that include the publication of the VIX close. A further index is published then too.
    """
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    table = sessions(es.calendar, date(2022, 6, 1), date(2025, 1, 31))
    roll = int(table["session"].search_sorted(date(2024, 12, 16)))
    old, new = table[roll - history : roll], table[roll - early : roll + front]
    parts = []
    for part, code in ((old, "ESZ24"), (new, "ESH25")):
        picked = []
        for length in part["minutes"]:
            minutes = draw.choice(length, int(draw.integers(*bars)), replace=False)
            picked.append(np.unique(np.append(minutes, min(VIX_MINUTE, length - 1))))
        parts.append(random_path(picked, draw, rough=True).canonical_bars(part, code, es))
    before = Predecessor(parts[0], build_sessions(parts[0], es, ProfileConfig()), 1.0, table["session"][roll])
    vix = _index_closes(table["session"].tail(history + 60).to_list(), draw)
    # another instrument: closes at most of the same minutes, with half the moves in common
    closes = pl.concat([part.select("ts", "close") for part in parts]).unique("ts", keep="last").sort("ts")
    noise = np.cumsum(0.0004 * draw.standard_normal(closes.height))
    moved = 3 * np.sqrt(closes["close"].to_numpy()) * np.exp(noise)
    pair = closes.with_columns(close=pl.Series(moved)).filter(pl.Series(draw.random(closes.height) < 0.8))
    other = _index_closes(vix["date"].to_list(), draw)
    return Market(join_vix(parts[1], vix), vix, es, before, pair, {"other": other})


def _index_closes(days: list[date], draw: np.random.Generator) -> pl.DataFrame:
    """Return a close for each day, from a random walk around 19, published at 16:15 New York."""
    close = 19 * np.exp(0.05 * np.cumsum(draw.standard_normal(len(days))) / 2)
    frame = pl.DataFrame({"date": days, "close": np.round(close, 2)}, schema_overrides={"date": pl.Date})
    return frame.with_columns(available_at("date").alias("available_at"))


def regular(count: int = 52, seed: int = 5) -> Market:
    """Return a contract without predecessor whose sessions have the same 90 minutes, without a gap between bars.

    40 of the minutes lie around midnight UTC, so a trade date differs from the date of the timestamps. 50 lie around
    the open of RTH.
    """
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    days = sessions(es.calendar, date(2025, 2, 3), date(2025, 10, 1))
    table = days.filter(pl.col("session") >= date(2025, 3, 17)).head(count)
    clock = np.concatenate((np.arange(100, 140), np.arange(905, 955)))
    path = random_path([clock] * table.height, draw)
    vix = _index_closes(days["session"].to_list(), draw)
    return Market(join_vix(path.canonical_bars(table, "ESM25", es), vix), vix, es)


def rolled(count: int = 34, minutes: int = 70, seed: int = 9) -> list[Market]:
    """Return two contracts in a row, each with its front sessions only. One bar in eight is missing."""
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    days = sessions(es.calendar, date(2025, 1, 2), date(2025, 10, 1))
    vix, markets = _index_closes(days["session"].to_list(), draw), list[Market]()
    before: Predecessor | None = None
    for code, roll, start in (("ESM25", date(2025, 3, 17), START), ("ESU25", date(2025, 6, 16), START + 700)):
        table = days.filter(pl.col("session") >= roll).head(count)
        kept = [930 + np.flatnonzero(draw.random(minutes) < 7 / 8) for _ in range(count)]
        bars = random_path(kept, draw, start=start).canonical_bars(table, code, es)
        markets.append(Market(join_vix(bars, vix), vix, es, before))
        ratio = (START + 700) / round(float(bars["close"][-1]) / es.tick_size)
        following = days.filter(pl.col("session") > table["session"][-1])["session"][0]
        before = _as_predecessor(bars, table["session"][-30], es, ratio, following)
    return markets


def martingale(contracts: int, seed: int, last: str = LAST) -> Iterator[Market]:
    """Yield the front periods of ``contracts`` quarterly contracts of a market that nothing can predict.

    Closes are a martingale on the tick grid, so no feature predicts the direction of a move. Each hour draws
    its own volatility, so at the end of an hour no feature predicts the size of the next hour's move either, given the
    time of day. A feature that does depends on the future. In a market with clustered volatility, like the real one,
    volatility features predict the size of moves, and no test could tell them from a leak.

    The last contract is ``last``. Every contract begins at the same price, so a roll has a gap; the predecessor carries
    the true ratio. VIX closes fall when the price rises.
    """
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    chain = [parse_contract(last)]
    while len(chain) < contracts:
        chain.insert(0, chain[0].previous)
    vix, before = _FallingVix(), None
    for contract in chain:
        table = sessions(es.calendar, contract.previous.scheduled_roll, contract.scheduled_roll)
        table = table.filter(pl.col("session") < contract.scheduled_roll)
        path = martingale_path(table, draw)
        lengths = table["minutes"].to_numpy().astype(np.int64)
        first = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        known = first + np.minimum(lengths, VIX_MINUTE) - 1  # the last bar that is closed when the VIX is published
        closes = vix.extend(table["session"].to_list(), path.close[known].astype(np.float64), draw)
        bars = join_vix(path.canonical_bars(table, contract.code, es), closes)
        yield Market(bars, closes, es, before)
        ratio = START / int(path.close[-1])
        before = _as_predecessor(bars, table["session"][-HISTORY_SESSIONS], es, ratio, contract.scheduled_roll)


def _as_predecessor(bars: pl.DataFrame, since: date, es: Instrument, ratio: float, successor_from: date) -> Predecessor:
    """Return the sessions of ``bars`` from ``since`` on as the predecessor of the next contract."""
    recent = bars.filter(pl.col("session") >= since)
    return Predecessor(recent, build_sessions(recent, es, ProfileConfig()), ratio, successor_from)


class _FallingVix:
    """VIX closes that fall when the price rises, as the real ones do."""

    def __init__(self) -> None:
        self._log, self._days, self._closes = 0.0, list[date](), list[float]()

    def extend(self, days: list[date], prices: NDArray[np.float64], draw: np.random.Generator) -> pl.DataFrame:
        """Add a close for each day, given the prices at its publication, and return all closes so far."""
        returns = np.diff(np.log(prices), prepend=np.log(START))
        for day, change in zip(days, returns, strict=True):
            self._log = 0.95 * self._log - 5.0 * float(change) + 0.04 * float(draw.standard_normal())
            self._days.append(day)
            self._closes.append(round(19.0 * float(np.exp(self._log)), 2))
        frame = pl.DataFrame({"date": self._days, "close": self._closes}, schema_overrides={"date": pl.Date})
        return frame.with_columns(available_at("date").alias("available_at"))
