"""Check that timestamps and prices follow the conventions that the reader assumed, by the exchange's own hours."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from vpoc_ml.artifacts.schemas import OFF_TICK, OUTSIDE_HOURS
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.clean import Cleaned, hours, within_hours
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instruments import Instrument

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
    raise UnreadableFileError(
        where,
        "timestamps within exchange hours",
        f"{shares[0]:.1%} of them outside, but {shares[best]:.1%} if they were {best:+d} h later",
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
            remedy="Deliver the single contract unadjusted.",
        )
