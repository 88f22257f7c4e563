"""The opening of RTH: minutes since it, initial balance and open range."""

from __future__ import annotations

import polars as pl

from vpoc_ml.market.exchange_calendar import sessions as exchange_sessions
from vpoc_ml.market.instruments import Instrument

INITIAL_BALANCE, OPEN_RANGE = 60, 10
"""Minutes from the opening of RTH (J. Dalton, Mind over Markets: the first two half hours)."""


def with_minutes(bars: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Return the RTH bars with ``minute``, whole minutes from the exchange's RTH opening to the bar's start.

    A session's first RTH bar may be missing: the opening comes from the calendar, not from the bars. Sessions the
    calendar does not know have no rows.

    Raises:
        InvalidValueError: bars outside the years whose hours were reviewed.
    """
    rth = bars.filter("rth")
    if rth.is_empty():
        return rth.with_columns(pl.lit(None, pl.Int64).alias("minute"))
    opens = exchange_sessions(instrument.calendar, rth["session"][0], rth["session"][-1])
    known = opens.select("session", "rth_open").drop_nulls()
    joined = rth.join(known, on="session", how="inner", maintain_order="left")
    return joined.with_columns((pl.col("ts") - pl.col("rth_open")).dt.total_minutes().alias("minute")).drop("rth_open")


def opening_ranges(bars: pl.DataFrame, instrument: Instrument) -> pl.DataFrame:
    """Return ``session, ib_high, ib_low, or_high, or_low`` in points, one row a session with RTH bars.

    The initial balance spans the first 60 minutes of RTH, known when they are over; the open range the first 10.
    Null where no bar fell into them.

    Raises:
        InvalidValueError: as ``with_minutes``.
    """
    wanted = (("ib", INITIAL_BALANCE), ("or", OPEN_RANGE))
    ranges = (
        (
            pl.col("high").filter(early).max().alias(f"{name}_high"),
            pl.col("low").filter(early).min().alias(f"{name}_low"),
        )
        for name, minutes in wanted
        for early in [pl.col("minute").is_between(0, minutes - 1)]
    )
    columns = [column for pair in ranges for column in pair]
    return with_minutes(bars, instrument).group_by("session", maintain_order=True).agg(columns)
