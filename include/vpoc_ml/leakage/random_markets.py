"""Small synthetic markets in which a look-ahead shows: awkward ones, regular ones, and rolls.

Prices are whole ticks; the same arguments give the same market.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.history import Predecessor
from vpoc_ml.ingest.vix.vix_closes import available_at, join_vix
from vpoc_ml.leakage.market import Market
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.profile.sessions import build_sessions

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SYMBOL = "ES"
START = 20_000
"""Ticks at which a market begins."""
VIX_MINUTE = 1335
"""Minutes from the open to 16:15 New York, when the day's VIX close is published."""
_COLUMNS = ("ts", "contract", "session", "rth", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Path:
    """One entry a bar: the row of its session in the table, its minute since the open, prices in ticks, contracts."""

    day: Ints
    minute: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints


def canonical(path: Path, table: pl.DataFrame, contract: str, es: Instrument) -> pl.DataFrame:
    """Return the canonical bars of a path, without ``vix``; ``table`` as ``market.calendar.sessions`` gives it."""
    hours = table.select(pl.int_range(pl.len()).alias("day"), "session", "rth_open", "rth_close", opened="open")
    prices = {name: getattr(path, name) * es.tick_size for name in ("open", "high", "low", "close")}
    rows = pl.DataFrame({"day": path.day, "minute": path.minute, **prices, "volume": path.volume})
    ts = (pl.col("opened") + pl.duration(minutes="minute")).dt.cast_time_unit("us")
    rows = rows.join(hours, on="day", how="left", maintain_order="left").with_columns(ts=ts)
    inside = pl.col("ts").is_between("rth_open", "rth_close", closed="left").fill_null(value=False)
    return rows.with_columns(rth=inside, contract=pl.lit(contract)).select(_COLUMNS)


def random_path(minutes: Sequence[Ints], draw: np.random.Generator, *, rough: bool, start: int = START) -> Path:
    """Return a random walk over the given minutes of each session.

    ``rough``: with minutes that do not move, stretches without a trade and jumps between sessions.
    """
    sizes = np.array([each.size for each in minutes])
    day, minute = np.repeat(np.arange(sizes.size), sizes), np.concatenate(minutes)
    steps = draw.integers(-6, 7, day.size)
    volume = draw.integers(1, 400, day.size)
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    steps[first] += draw.integers(-40, 41, sizes.size)
    if rough:
        steps, volume = _roughened(steps, volume, first, draw)
    close = start + np.cumsum(steps)
    opened = close - draw.integers(-2, 3, close.size)
    return Path(
        day=day,
        minute=minute,
        open=opened,
        high=np.maximum(opened, close) + draw.integers(0, 5, close.size),
        low=np.minimum(opened, close) - draw.integers(0, 5, close.size),
        close=close,
        volume=volume,
    )


def awkward(
    *, bars: tuple[int, int] = (60, 110), history: int = 30, early: int = 2, front: int = 4, seed: int = 17
) -> Market:
    """Return a contract with ``early`` sessions before it is front and ``front`` after, and its predecessor.

    The predecessor has ``history`` sessions, one of them a half day. A session has between ``bars`` many bars at random
    minutes, the one in which the VIX close is published among them. Another index is published then too.
    """
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    table = sessions(es.calendar, date(2022, 6, 1), date(2025, 1, 31))
    roll = int(table["session"].search_sorted(date(2024, 12, 16)))
    old, new = table[roll - history : roll], table[roll - early : roll + front]
    parts = [
        canonical(_rough_path(part, bars, draw), part, code, es) for part, code in ((old, "ESZ24"), (new, "ESH25"))
    ]
    before = Predecessor(parts[0], build_sessions(parts[0], es, ProfileConfig()), 1.0, table["session"][roll])
    vix = vix_closes(table["session"].tail(history + 60).to_list(), draw)
    pair, other = _pair(parts, draw), vix_closes(vix["date"].to_list(), draw)
    return Market(join_vix(parts[1], vix), vix, es, before, pair, {"other": other})


def _pair(parts: list[pl.DataFrame], draw: np.random.Generator) -> pl.DataFrame:
    """Return another instrument's closes, with half the moves in common, at most of the same minutes."""
    closes = pl.concat([part.select("ts", "close") for part in parts]).unique("ts", keep="last").sort("ts")
    noise = np.cumsum(0.0004 * draw.standard_normal(closes.height))
    other = 3 * np.sqrt(closes["close"].to_numpy()) * np.exp(noise)
    return closes.with_columns(close=pl.Series(other)).filter(pl.Series(draw.random(closes.height) < 0.8))


def regular(count: int = 52, seed: int = 5) -> Market:
    """Return a contract without predecessor whose sessions have the same 90 minutes, without a gap between bars.

    40 of them lie around midnight UTC, so that a trade date is not a date of the stamps, and 50 around RTH's open.
    """
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    days = sessions(es.calendar, date(2025, 2, 3), date(2025, 10, 1))
    table = days.filter(pl.col("session") >= date(2025, 3, 17)).head(count)
    clock = np.concatenate((np.arange(100, 140), np.arange(905, 955)))
    path = random_path([clock] * table.height, draw, rough=False)
    vix = vix_closes(days["session"].to_list(), draw)
    return Market(join_vix(canonical(path, table, "ESM25", es), vix), vix, es)


def rolled(count: int = 34, minutes: int = 70, seed: int = 9) -> list[Market]:
    """Return two contracts in a row, each with its front sessions only; one bar in eight is missing."""
    es, draw = instrument(SYMBOL), np.random.default_rng(seed)
    days = sessions(es.calendar, date(2025, 1, 2), date(2025, 10, 1))
    vix, found = vix_closes(days["session"].to_list(), draw), list[Market]()
    before: Predecessor | None = None
    for code, roll, start in (("ESM25", date(2025, 3, 17), START), ("ESU25", date(2025, 6, 16), START + 700)):
        table = days.filter(pl.col("session") >= roll).head(count)
        kept = [930 + np.flatnonzero(draw.random(minutes) < 7 / 8) for _ in range(count)]
        bars = canonical(random_path(kept, draw, rough=False, start=start), table, code, es)
        found.append(Market(join_vix(bars, vix), vix, es, before))
        recent = bars.filter(pl.col("session") >= table["session"][-30])
        step = START + 700, round(float(bars["close"][-1]) / es.tick_size)
        following = days.filter(pl.col("session") > table["session"][-1])["session"][0]
        before = Predecessor(recent, build_sessions(recent, es, ProfileConfig()), step[0] / step[1], following)
    return found


def vix_closes(days: list[date], draw: np.random.Generator) -> pl.DataFrame:
    """Return a close for each day, from a random walk around 19, published at 16:15 New York."""
    close = 19 * np.exp(0.05 * np.cumsum(draw.standard_normal(len(days))) / 2)
    frame = pl.DataFrame({"date": days, "close": np.round(close, 2)}, schema_overrides={"date": pl.Date})
    return frame.with_columns(available_at("date").alias("available_at"))


def _rough_path(table: pl.DataFrame, bars: tuple[int, int], draw: np.random.Generator) -> Path:
    picked = []
    for length in table["minutes"]:
        minutes = draw.choice(length, int(draw.integers(*bars)), replace=False)
        picked.append(np.unique(np.append(minutes, min(VIX_MINUTE, length - 1))))
    return random_path(picked, draw, rough=True)


def _roughened(steps: Ints, volume: Ints, first: Ints, draw: np.random.Generator) -> tuple[Ints, Ints]:
    steps = steps * (draw.random(steps.size) < 0.6)
    volume = volume * (draw.random(volume.size) < 0.8)
    for at in first[2::5]:
        steps[at + 10 : at + 45] = 0  # longer than a window: nothing moves
    for at in first[3::5]:
        volume[at : at + 35] = 0  # the session opens without a trade, longer than a window
    return steps, volume
