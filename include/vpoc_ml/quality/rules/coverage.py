"""Checks whether a contract's bars cover the exchange's calendar: minutes, sessions, gaps, and the end of the file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.config import QualityConfig
from vpoc_ml.quality.checks import NONE, Check, ContractFacts, Limit, Measurement
from vpoc_ml.quality.rules.plausibility import STEADY, at_daily_limit, list_ranges

_MINUTE = pl.duration(minutes=1)
_REMEDY = "deliver newer bars or raise quality.max_age_sessions"
MISSING_SESSIONS = 2  # an unscheduled closure, such as two days of a hurricane


def checks(config: QualityConfig) -> Sequence[Check]:
    """Return the checks of ``measurements``."""
    share, warn = Limit(share=config.thresholds.row_count_fail), Limit(share=config.thresholds.row_count_warn)
    missing = Limit(count=MISSING_SESSIONS, share=config.thresholds.row_count_fail)
    return (
        Check("minutes", ALL, "a bar for every minute of the calendar", share, warn_if=warn),
        Check("sessions", ALL, "bars in every session of the calendar", missing, warn_if=NONE),
        Check("thin", ALL, "bars in half of a session's minutes at least", error_if=None, warn_if=NONE),
        Check("gaps", ALL, f"no more than {config.thresholds.max_gap_minutes} minutes in a row without a bar"),
        Check("ends", ALL, "bars up to the session that is due", Limit(count=config.max_age_sessions)),
        Check("complete", ALL, "a newest session that reaches its close"),
    )


def measurements(rows: pl.DataFrame, contract: str, facts: ContractFacts, max_gap: int) -> list[Measurement]:
    """Compare the bars of every session with the calendar's minutes, from the first session to the last.

    A deferred contract does not trade every minute, so only its time as the front contract is compared. Of the newest
    session, which may still trade, only the minutes up to its last bar count; ``complete`` covers the minutes after.

    Args:
        rows: session, ts, close of the bars, sorted by ts.
        contract: Contract code of the measurements.
        facts: The contract's calendar, its front period and the session that is due.
        max_gap: Consecutive minutes that may lack a bar.
    """
    days = rows.group_by("session").agg(
        pl.len().alias("bars"),
        pl.col("ts").first().alias("first"),
        pl.col("ts").last().alias("last"),
        pl.col("close").last(),
    )
    first, last = rows["session"].min(), rows["session"].max()
    span = facts.calendar.filter(pl.col("session").is_between(first, last))
    inside = span if facts.front is None else span.filter(pl.col("session").is_between(*facts.front))
    table = _up_to_newest(inside.join(days, on="session", how="left").sort("session"), rows["ts"][-1])
    missing = int((table["minutes"].cast(pl.Int64) - table["bars"].cast(pl.Int64)).clip(lower_bound=0).sum())
    empty = table.with_row_index("n").filter((pl.col("bars") == 0) & (pl.col("minutes") > 0))
    runs = empty.group_by(pl.col("n").cast(pl.Int64) - pl.int_range(pl.len()), maintain_order=True).agg(
        pl.col("session").first(), pl.col("session").last().alias("to"), pl.len().alias("size")
    )
    note = list_ranges(runs.select("session", "to", "size").iter_rows(), "sessions")
    thin = table.filter((pl.col("bars") > 0) & (2 * pl.col("bars") < pl.col("minutes")))
    gone, few = tuple(empty["session"].head(3)), tuple(thin["session"].head(3))
    return [
        Measurement(contract, ALL, "minutes", missing, int(table["minutes"].sum()), unit="minutes"),
        Measurement(
            contract, ALL, "sessions", empty.height, table.height, gone, (), note, "sessions", empty.select("session")
        ),
        Measurement(
            contract, ALL, "thin", thin.height, table.height, few, unit="sessions", found=thin.select("session")
        ),
        _gaps(rows, contract, table, days, max_gap),
        *_end(contract, facts, days.sort("session"), max_gap),
    ]


def _up_to_newest(table: pl.DataFrame, last: datetime) -> pl.DataFrame:
    """Return sessions and bars with the minutes that were tradeable up to the end of the newest bar."""

    def minutes(duration: pl.Expr) -> pl.Expr:
        return duration.dt.total_minutes().clip(lower_bound=0)

    end = pl.lit(last).dt.cast_time_unit("us") + _MINUTE
    after = minutes(pl.col("close") - pl.max_horizontal("open", end))
    if "halt_start" in table.columns:
        after -= minutes(pl.col("halt_end") - pl.max_horizontal("halt_start", end)).fill_null(0)
    return table.with_columns(pl.col("bars").fill_null(0), minutes=pl.col("minutes").cast(pl.Int64) - after)


def _gaps(rows: pl.DataFrame, contract: str, table: pl.DataFrame, days: pl.DataFrame, max_gap: int) -> Measurement:
    """Measure runs of minutes without a bar inside the sessions that trade steadily.

    The first session may begin late and the last one end early, because a file starts and stops somewhere; ``ends``
    and ``complete`` cover the end. Minutes of the daily halt do not count, nor do those after a price at its daily
    limit.
    """
    closes = days.sort("session").select("session", before=pl.col("close").shift(1))
    steady = table.filter(pl.col("bars") >= STEADY * pl.col("minutes")).join(closes, on="session", how="left")
    halts = [name for name in ("halt_start", "halt_end") if name in steady.columns]
    known = steady.select("session", "before", pl.col("open").alias("opens"), pl.col("close").alias("closes"), *halts)
    ends = [
        known.filter(pl.col("session") > rows["session"][0]).select(
            "session", ts=pl.col("opens") - _MINUTE, close="before"
        ),
        known.filter(pl.col("session") < rows["session"][-1]).select("session", ts="closes", close="before"),
    ]
    points = pl.concat([rows.select("session", "ts", "close"), *ends]).sort("session", "ts", maintain_order=True)
    between = points.with_columns(to=pl.col("ts").shift(-1).over("session"), begins=pl.col("ts") + _MINUTE).join(
        known, on="session", how="inner", maintain_order="left"
    )
    halted = pl.lit(0)
    if halts:
        overlap = pl.min_horizontal("to", "halt_end") - pl.max_horizontal("begins", "halt_start")
        halted = pl.when(pl.col("halt_start").is_not_null()).then(overlap.dt.total_minutes().clip(0)).otherwise(0)
    found = between.with_columns(size=(pl.col("to") - pl.col("begins")).dt.total_minutes() - halted).filter(
        pl.col("size") > max_gap, ~at_daily_limit()
    )
    note = list_ranges(found.select("begins", "to", "size").iter_rows(), "minutes")
    first = tuple(found["begins"].head(3))
    return Measurement(contract, ALL, "gaps", found.height, max(steady.height, 1), first, note=note, unit="gaps")


def _end(contract: str, facts: ContractFacts, days: pl.DataFrame, max_gap: int) -> list[Measurement]:
    """Measure the missing sessions between the newest bar and the session that is due, and a newest session cut
    short."""
    due = facts.due
    if due is None:
        units = (("ends", "sessions"), ("complete", "files"))
        return [Measurement(contract, ALL, check, 0, 1, unit=unit) for check, unit in units]
    newest: date = days["session"][-1]
    last: datetime = days["last"][-1]
    late = facts.calendar.filter((pl.col("session") > newest) & (pl.col("session") <= due))["session"]
    note = f"the newest bar is {last:%Y-%m-%d %H:%M} UTC, session {late[-1]} is due; {_REMEDY}" if late.len() else ""
    closes = facts.calendar.filter((pl.col("session") == newest) & (pl.col("session") <= due))["close"]
    left = int((closes[0] - last).total_seconds() // 60) - 1 if closes.len() else 0
    cut = left > max_gap
    ending = f"ends {left:,} minutes before its close {closes[0]:%Y-%m-%d %H:%M} UTC" if cut else ""
    first = tuple(late.head(3))
    return [
        Measurement(contract, ALL, "ends", late.len(), max(late.len(), 1), first, note=note, unit="sessions"),
        Measurement(contract, ALL, "complete", int(cut), 1, (last,) if cut else (), note=ending, unit="sessions"),
    ]
