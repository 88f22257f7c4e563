"""Separate the rows that are bars from the rows that are not, and refuse a file of another convention.

No value is changed, no row is lost. Among the rows that are no bars are isolated bad prints: one bar whose price or
volume no bar around it supports. After a real move the following bars trade at the new level, or between both. A bad
print is a single bar that leaves the range of its neighbours on both sides. An error that lasts longer than one bar is
not detected here.

A file whose timestamps or prices do not follow the convention that its reader assumed is refused, by the exchange's own
hours and tick grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from vpoc_ml.artifacts.schemas import (
    BAD_PRINT,
    BARS,
    BELOW_MIN_PRICE,
    CONFLICTING,
    DUPLICATE,
    NEGATIVE_VOLUME,
    OFF_TICK,
    OHLC,
    OHLCV,
    OUTSIDE_HOURS,
    PRICES,
    QUARANTINE,
    UNPARSABLE,
)
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import clip_to_reviewed, contract_sessions, reviewed_range
from vpoc_ml.market.instruments import TICK_TOLERANCE, Instrument

# The largest move of one minute that the next ones reversed is about 1 % (2013-04-23, 2010-05-06); the minute of data
# releases has a standard deviation of 0.24 %. Ten median bar ranges are the limit in fast markets: 0.4 % bars of March
# 2020, or crude oil around zero, where a share of the price means nothing.
_PRICE_SHARE = 0.015
_RANGES = 10.0
_RANGE_BARS = 31
_PRICE_NEIGHBOURS = (-2, -1, 1, 2)
_NEAR = pl.duration(minutes=5)

# The closing minute trades 20 times the median and six times the minute before it; a data release 75 times the
# minutes before it, but no more than five times those after it. In real contracts no bar exceeds 14 times the
# largest of the ten bars around.
_VOLUME_RATIO = 50
_VOLUME_SHARE = 0.001
_VOLUME_NEIGHBOURS = tuple(n for n in range(-5, 6) if n)
_MIN_BARS = 60
_MIN_MEDIAN = 20
MAX_VOLUME = 10_000_000
"""Largest possible volume of a minute in contracts; the busiest days of the largest futures reach six million."""


def isolated_prints() -> pl.Expr:
    """Return a Boolean expression over bars (ts, session, open, high, low, close, volume; sorted by ts)."""
    return isolated_prices() | isolated_volumes()


def isolated_prices() -> pl.Expr:
    """Mark bars that leave the range of the two bars before and after them by more than a limit.

    The limit is the larger of 1.5 % of the price and ten median bar ranges of the 31 bars around. A bar without a
    neighbour within five minutes on either side is not checked: deferred months trade hours apart. The first and the
    last bar of a file have neighbours on one side only. Fewer than 31 bars are not checked.
    """
    above = pl.col("high") - pl.max_horizontal(pl.col("high").shift(n) for n in _PRICE_NEIGHBOURS)
    below = pl.min_horizontal(pl.col("low").shift(n) for n in _PRICE_NEIGHBOURS) - pl.col("low")
    ts = pl.col("ts")
    near = (ts - ts.shift(1) <= _NEAR).fill_null(False) | (ts.shift(-1) - ts <= _NEAR).fill_null(False)
    level = pl.col("close").rolling_median(_RANGE_BARS, center=True, min_samples=1).abs()
    far = pl.max_horizontal(_PRICE_SHARE * level, median_bar_range(_RANGES))
    known = pl.len() >= _RANGE_BARS
    return (known & near & (pl.max_horizontal(above, below) > far)).fill_null(False)


def isolated_volumes() -> pl.Expr:
    """Mark bars with more than 50 times the volume of the ten bars around and 0.1 % of the rest of their session.

    Only sessions that trade steadily (60 bars, a median of 20 contracts) are checked: a block trade in a deferred
    month looks the same and is valid. ``MAX_VOLUME`` holds for every bar.
    """
    volume = pl.col("volume")
    around = pl.max_horizontal(volume.shift(n) for n in _VOLUME_NEIGHBOURS)
    rest = volume.sum().over("session") - volume
    steady = (pl.len().over("session") >= _MIN_BARS) & (volume.median().over("session") >= _MIN_MEDIAN)
    alone = (volume > _VOLUME_RATIO * around) & (volume > _VOLUME_SHARE * rest)
    return ((volume > MAX_VOLUME) | (steady & alone)).fill_null(False)


def median_bar_range(times: float) -> pl.Expr:
    """Return ``times`` the median of high - low over the 31 bars around, in points."""
    return times * (pl.col("high") - pl.col("low")).rolling_median(_RANGE_BARS, center=True, min_samples=1)


@dataclass(frozen=True)
class Cleaned:
    """``bars`` sorted by unique ts; ``quarantine`` by file and line; ``out_of_order``: rows that had to move."""

    bars: pl.DataFrame
    quarantine: pl.DataFrame
    out_of_order: int


def clean(
    rows: pl.DataFrame, contract: Contract, instrument: Instrument, min_price: float, bad_prints: int = 0
) -> Cleaned:
    """Split rows (ts, open, high, low, close, volume, line; text and file if known) into bars and quarantine.

    Every row is in exactly one of the two. A row has one reason, the first that applies: unparsable; outside exchange
    hours (weekend, maintenance, halt, holiday, after the contract's last trade); a price below ``min_price`` points,
    unless the instrument allows ``negative_prices``; off the tick grid; OHLC out of order; negative volume. Of the
    remaining rows with equal timestamps the first is the bar; the others are duplicates, conflicting if any value
    differs. Of the remaining bars, isolated bad prints are quarantined if there are at most ``bad_prints``. More are
    no single mistakes: they stay in the bars, and the gate reports them.
    """
    assigned = within_hours(rows.with_row_index("row"), contract, instrument)
    reasoned = assigned.with_columns(reason=_row_reason(instrument, min_price))
    bad = reasoned.filter(pl.col("reason").is_not_null())
    good = reasoned.filter(pl.col("reason").is_null()).sort("row")
    same = pl.all_horizontal(pl.col(name) == pl.col(name).first().over("ts") for name in OHLCV)
    repeats = good.with_columns(reason=pl.when(same).then(pl.lit(DUPLICATE)).otherwise(pl.lit(CONFLICTING))).filter(
        pl.col("row") != pl.col("row").first().over("ts")
    )
    kept = good.join(repeats.select("row"), on="row", how="anti").sort("ts")
    prints = kept.filter(isolated_prints()) if bad_prints else kept.clear()
    prints = (prints if prints.height <= bad_prints else kept.clear()).with_columns(reason=pl.lit(BAD_PRINT))
    kept = kept.join(prints.select("row"), on="row", how="anti", maintain_order="left")
    bars = kept.with_columns(contract=pl.lit(contract.code)).select(name for name in BARS if name != "vix")
    columns = [name for name in QUARANTINE if name not in ("text", "file") or name in rows.columns]
    quarantine = pl.concat([bad, repeats, prints], how="diagonal").sort("row").select(columns)
    delivered = kept.sort("row")
    before = pl.col("ts").cum_max().over("file") if "file" in kept.columns else pl.col("ts").cum_max()
    return Cleaned(bars, quarantine, int(delivered.select((pl.col("ts") < before).sum()).item()))


def within_hours(rows: pl.DataFrame, contract: Contract, instrument: Instrument) -> pl.DataFrame:
    """Return rows (ts and any others) with session and rth; session is null outside exchange hours."""
    timed = rows.filter(pl.col("ts").is_not_null()).sort("ts", maintain_order=True)
    table = hours(timed, contract, instrument)
    joined = timed.join_asof(table, left_on="ts", right_on="open_at", strategy="backward", coalesce=False)
    ts = pl.col("ts")
    halted = (ts >= pl.col("halt_start")) & (ts < pl.col("halt_end"))
    trading = (ts < pl.col("close_at")) & ~halted.fill_null(False)
    assigned = joined.with_columns(
        session=pl.when(trading).then("session"),
        rth=((ts >= pl.col("rth_open")) & (ts < pl.col("rth_close"))).fill_null(False),
    ).select(*rows.columns, "session", "rth")
    return pl.concat([assigned, rows.filter(pl.col("ts").is_null())], how="diagonal")


def hours(timed: pl.DataFrame, contract: Contract, instrument: Instrument) -> pl.DataFrame:
    """Return the contract's sessions around the timestamps (ts, no nulls): open_at, session, close_at, RTH, halt."""
    first, last = reviewed_range(instrument.calendar)
    if timed.height:
        low, high = timed["ts"].min().date(), timed["ts"].max().date()  # type: ignore[union-attr]
        week, calendar = timedelta(days=7), instrument.calendar
        first, last = clip_to_reviewed(calendar, low - week), clip_to_reviewed(calendar, high + week)
    table = contract_sessions(contract, instrument, first, last)
    # the reader's rows have a price named open and one named close
    return table.rename({"close": "close_at"}).select(
        pl.col("open").alias("open_at"), "session", "close_at", "rth_open", "rth_close", "halt_start", "halt_end"
    )


def _row_reason(instrument: Instrument, min_price: float) -> pl.Expr:
    """Return the first reason that applies to a row on its own, else null."""
    least = -float("inf") if instrument.negative_prices else max(min_price, instrument.tick_size)
    ticks = [pl.col(name) / instrument.tick_size for name in PRICES]
    off_tick = pl.any_horizontal((value - value.round()).abs() > TICK_TOLERANCE for value in ticks)
    low_bound = pl.min_horizontal("open", "close", "high")
    high_bound = pl.max_horizontal("open", "close", "low")
    return (
        pl.when(pl.col("ts").is_null())
        .then(pl.lit(UNPARSABLE))
        .when(pl.col("session").is_null())
        .then(pl.lit(OUTSIDE_HOURS))
        .when(pl.min_horizontal(*PRICES) < least)
        .then(pl.lit(BELOW_MIN_PRICE))
        .when(off_tick)
        .then(pl.lit(OFF_TICK))
        .when((pl.col("low") > low_bound) | (pl.col("high") < high_bound))
        .then(pl.lit(OHLC))
        .when(pl.col("volume") < 0)
        .then(pl.lit(NEGATIVE_VOLUME))
    )


MIN_SESSIONS = 3
_MOST, _FEW = 0.8, 0.2
_ADJUSTED = 0.1
_MINUTE = timedelta(minutes=1)


def check_side(cleaned: Cleaned, contract: Contract, instrument: Instrument, where: str) -> None:
    """Refuse timestamps that mark the other side of the bar.

    Bars of a session lie in [open, close). If most sessions have a bar AT the close and none at the open, the
    timestamps mark the END of a bar and were read as its START. A bar one minute before the open and none in the last
    minute means the opposite. Both errors move the 15:59 bar, more than a percent of a day's volume, into another
    minute. Fewer than three sessions, or sessions with few bars, prove nothing and pass.

    Raises:
        UnreadableFileError: naming ``ingest.label_side``.
    """
    stray = cleaned.quarantine.filter(pl.col("reason") == OUTSIDE_HOURS)["ts"]
    bars = cleaned.bars["ts"]
    table = hours(cleaned.bars, contract, instrument).filter(pl.col("session").is_in(cleaned.bars["session"].implode()))
    if table.height < MIN_SESSIONS or not MIN_SESSIONS <= stray.len() <= 2 * table.height:
        return  # more than a stray or two a session is another fault, such as a wrong zone
    opens, closes = table["open_at"], table["close_at"]
    at_open, at_last = bars.is_in(opens.implode()).sum(), bars.is_in((closes - _MINUTE).implode()).sum()
    at_close, before_open = stray.is_in(closes.implode()).sum(), stray.is_in((opens - _MINUTE).implode()).sum()
    if at_close >= _MOST * table.height and at_open <= _FEW * table.height:
        count, position, side = int(at_close), "at the close and none at the open", "end"
    elif before_open >= _MOST * table.height and at_last <= _FEW * table.height:
        count, position, side = int(before_open), "before the open and none in the last minute", "start"
    else:
        return
    raise UnreadableFileError(
        where,
        "timestamps that mark the side of the bar that the format states",
        f"a bar {position} in {count} of {table.height} sessions, so the timestamps mark the {side} of a bar",
        remedy=f"Set ingest.label_side to {side}.",
    )


def check_zone(rows: pl.DataFrame, contract: Contract, instrument: Instrument, where: str) -> None:
    """Refuse timestamps that lie in the exchange's hours only when they are moved by whole hours: another zone.

    Raises:
        UnreadableFileError: naming ``ingest.timezone``.
    """
    timestamps = rows.select("ts").drop_nulls()

    def outside(shift: int) -> float:
        """Return the share of timestamps outside exchange hours after a shift by hours."""
        moved = timestamps.with_columns(pl.col("ts") + pl.duration(hours=shift))
        if not moved.height:
            return 0.0
        return 1.0 - within_hours(moved, contract, instrument)["session"].count() / moved.height

    shares = {shift: outside(shift) for shift in range(-12, 13)}
    best = min(shares, key=lambda shift: (shares[shift], abs(shift)))
    if best == 0 or shares[best] > _FEW * shares[0]:
        return
    direction = "later" if best > 0 else "earlier"
    raise UnreadableFileError(
        where,
        "timestamps within exchange hours",
        f"{shares[0]:.1%} of them outside, but {shares[best]:.1%} if they were {abs(best)} h {direction}",
        remedy="Set ingest.timezone to the zone of the timestamps.",
    )


def check_unadjusted(cleaned: Cleaned, rows: int, instrument: Instrument, where: str) -> None:
    """Refuse a file of which more than a tenth of the rows are off the tick grid, as in a ratio-adjusted series.

    Raises:
        UnreadableFileError: with the share of such rows.
    """
    off = int((cleaned.quarantine["reason"] == OFF_TICK).sum())
    if off > _ADJUSTED * rows:
        raise UnreadableFileError(
            where,
            f"unadjusted prices, multiples of {instrument.tick_size}",
            f"{off / rows:.1%} of the rows off the grid, as in a ratio-adjusted series",
            remedy="Deliver the single contract unadjusted. For an instrument of your own, check its tick.",
        )
