"""Separate the rows that are bars from the rows that are not. No value is changed, no row is lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from vpoc_ml.artifacts.quarantine_reasons import (
    BELOW_MIN_PRICE,
    CONFLICTING,
    DUPLICATE,
    NEGATIVE_VOLUME,
    OFF_TICK,
    OHLC,
    OUTSIDE_HOURS,
    UNPARSABLE,
)
from vpoc_ml.ingest.bad_prints import BAD_PRINT, isolated_prints
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import clip_to_reviewed, contract_sessions, reviewed_range
from vpoc_ml.market.instruments import TICK_TOLERANCE, Instrument

_PRICES = ("open", "high", "low", "close")
_VALUES = (*_PRICES, "volume")
BAR_COLUMNS = ("ts", "contract", "session", "rth", *_VALUES)
QUARANTINE_COLUMNS = ("line", "ts", *_VALUES, "reason")
_PLACE = ("text", "file")


@dataclass(frozen=True)
class Cleaned:
    """``bars`` sorted by unique ts; ``quarantine`` by file and line; ``out_of_order``: rows that had to move."""

    bars: pl.DataFrame
    quarantine: pl.DataFrame
    out_of_order: int


def clean(
    rows: pl.DataFrame, contract: Contract, instrument: Instrument, min_price: float, bad_prints: int = 0
) -> Cleaned:
    """Split rows (ts, open, high, low, close, volume, line; text, file where known) into bars and quarantine.

    Every row lands in exactly one of the two. A row has one reason, the first that holds: unparsable; outside
    exchange hours (weekend, maintenance, halt, holiday, after the contract's last trade); a price below
    ``min_price`` points, unless the instrument allows ``negative_prices``; off the tick grid; OHLC out of order;
    negative volume. Among the rows left, the first of equal stamps is the bar, and later ones are duplicates,
    conflicting if any value differs. Of the bars then left, isolated bad prints are set apart if there are at most
    ``bad_prints``; more are no single mistakes and stay for the gate to find.
    """
    assigned = within_hours(rows.with_row_index("row"), contract, instrument)
    judged = assigned.with_columns(reason=_row_reason(instrument, min_price))
    good = judged.filter(pl.col("reason").is_null())
    repeats = _repeats(good)
    kept = good.join(repeats.select("row"), on="row", how="anti").sort("ts")
    prints = _prints(kept, bad_prints)
    kept = kept.join(prints.select("row"), on="row", how="anti", maintain_order="left")
    bars = kept.select("ts", pl.lit(contract.code).alias("contract"), "session", "rth", *_VALUES)
    bad = pl.concat([judged.filter(pl.col("reason").is_not_null()), repeats, prints], how="diagonal")
    columns = [*QUARANTINE_COLUMNS, *(name for name in _PLACE if name in rows.columns)]
    return Cleaned(bars, bad.sort("row").select(columns), _out_of_order(kept.sort("row")))


def within_hours(rows: pl.DataFrame, contract: Contract, instrument: Instrument) -> pl.DataFrame:
    """Return rows (ts and any others) with session and rth; session is null outside exchange hours."""
    stamped = rows.filter(pl.col("ts").is_not_null()).sort("ts", maintain_order=True)
    table = hours(stamped, contract, instrument)
    open_ = stamped.join_asof(table, left_on="ts", right_on="open_at", strategy="backward", coalesce=False)
    ts = pl.col("ts")
    halted = (ts >= pl.col("halt_start")) & (ts < pl.col("halt_end"))
    trading = (ts < pl.col("close_at")) & ~halted.fill_null(False)
    assigned = open_.with_columns(
        session=pl.when(trading).then("session"),
        rth=((ts >= pl.col("rth_open")) & (ts < pl.col("rth_close"))).fill_null(False),
    ).select(*rows.columns, "session", "rth")
    return pl.concat([assigned, rows.filter(pl.col("ts").is_null())], how="diagonal")


def hours(stamped: pl.DataFrame, contract: Contract, instrument: Instrument) -> pl.DataFrame:
    """Return the contract's sessions around the stamps, absurd ones aside: open_at, session, close_at and RTH."""
    first, last = reviewed_range(instrument.calendar)
    if stamped.height:
        low, high = stamped["ts"].min().date(), stamped["ts"].max().date()  # type: ignore[union-attr]
        week, calendar = timedelta(days=7), instrument.calendar
        first, last = clip_to_reviewed(calendar, low - week), clip_to_reviewed(calendar, high + week)
    table = contract_sessions(contract, instrument, first, last)
    # the reader's rows have a price named open and one named close
    return table.rename({"close": "close_at"}).select(
        pl.col("open").alias("open_at"), "session", "close_at", "rth_open", "rth_close", "halt_start", "halt_end"
    )


def _row_reason(instrument: Instrument, min_price: float) -> pl.Expr:
    least = -float("inf") if instrument.negative_prices else max(min_price, instrument.tick_size)
    ticks = [pl.col(name) / instrument.tick_size for name in _PRICES]
    off_tick = pl.any_horizontal((value - value.round()).abs() > TICK_TOLERANCE for value in ticks)
    low_bound = pl.min_horizontal("open", "close", "high")
    high_bound = pl.max_horizontal("open", "close", "low")
    return (
        pl.when(pl.col("ts").is_null())
        .then(pl.lit(UNPARSABLE))
        .when(pl.col("session").is_null())
        .then(pl.lit(OUTSIDE_HOURS))
        .when(pl.min_horizontal(*_PRICES) < least)
        .then(pl.lit(BELOW_MIN_PRICE))
        .when(off_tick)
        .then(pl.lit(OFF_TICK))
        .when((pl.col("low") > low_bound) | (pl.col("high") < high_bound))
        .then(pl.lit(OHLC))
        .when(pl.col("volume") < 0)
        .then(pl.lit(NEGATIVE_VOLUME))
    )


def _repeats(good: pl.DataFrame) -> pl.DataFrame:
    """Return every row but the first of each stamp, with its reason."""
    ordered = good.sort("row")
    same = pl.all_horizontal(pl.col(name) == pl.col(name).first().over("ts") for name in _VALUES)
    return ordered.with_columns(reason=pl.when(same).then(pl.lit(DUPLICATE)).otherwise(pl.lit(CONFLICTING))).filter(
        pl.col("row") != pl.col("row").first().over("ts")
    )


def _prints(kept: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Return the isolated bad prints of bars sorted by ts, with their reason; none if more than ``limit``."""
    found = kept.filter(isolated_prints()) if limit else kept.clear()
    return (found if found.height <= limit else kept.clear()).with_columns(reason=pl.lit(BAD_PRINT))


def _out_of_order(kept: pl.DataFrame) -> int:
    """Return how many stamps are earlier than one before them in their file."""
    before = pl.col("ts").cum_max().over("file") if "file" in kept.columns else pl.col("ts").cum_max()
    return int(kept.select((pl.col("ts") < before).sum()).item())
