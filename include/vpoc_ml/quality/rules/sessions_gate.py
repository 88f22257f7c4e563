"""Checks of gate ``sessions``: the volume profiles of a contract are consistent in themselves and with its bars."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.schemas import LEVELS, SESSIONS
from vpoc_ml.config import QualityThresholds
from vpoc_ml.profile.tick_bars import Anchor, select_anchor
from vpoc_ml.quality.checks import FILE_CHECKS, NONE, Check, Limit, Measurement, schema_check
from vpoc_ml.quality.measure import EXAMPLES, Column, Profile, RowRule, measure_file, profile_frame
from vpoc_ml.quality.rules.coverage import MISSING_SESSIONS

ANCHORS: dict[Anchor, str] = {"session": "", "rth": "rth_", "overnight": "overnight_"}
"""Bars of a profile -> prefix of its columns."""
NEVER_NULL = ("contract", "session", "bars", "open", "high", "low", "close", "volume", "range")
TOLERANCE = 1e-6
"""Of prices in points, of volumes as a share."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The profiles of a contract and what they must agree with.

    Args:
        path: Parquet file of the sessions.
        developing: Parquet file of the levels at every bar.
        bars: Parquet file of the bars.
        calendar: Sessions of the exchange around the bars (session, minutes).
        front: First and last session as the front contract, in which no session of the calendar may be missing.
    """

    path: Path
    developing: Path
    bars: Path
    calendar: pl.DataFrame
    front: tuple[date, date]


def checks(config: QualityThresholds) -> list[Check]:
    """Return every check of the gate."""
    missing = Limit(count=MISSING_SESSIONS, share=config.row_count_fail)
    result = [
        *FILE_CHECKS,
        *(schema_check(name, dtype) for name, dtype in SESSIONS.items()),
        *(Check("null", name, "no null") for name in NEVER_NULL),
        Check("contract", "contract", "the contract's own code in every row"),
        Check("order", "session", "sessions that strictly increase"),
        Check("missing_sessions", "session", "a row for every session of the bars"),
        Check("unknown_sessions", "session", "no row without a bar"),
        Check("calendar", "session", "every session of the calendar as the front contract", missing, warn_if=NONE),
        Check("final", "vpoc", "the levels of the session's last bar"),
    ]
    for anchor, prefix in ANCHORS.items():
        bars = {"session": "the session", "rth": "RTH", "overnight": "the night"}[anchor]
        result += [
            Check("inside", f"{prefix}vpoc", f"VPOC, VAH and VAL between low and high of {bars}"),
            Check("ordered", f"{prefix}vpoc", "VAL <= VPOC <= VAH"),
            Check("traded", f"{prefix}vpoc", "levels wherever volume was traded"),
            Check("tick", f"{prefix}vpoc", "a VPOC on the tick grid"),
            Check(
                "area", f"{prefix}va_volume", "a value area with its share of the volume, and no more than all of it"
            ),
            Check("sum", f"{prefix}volume", f"the sum of the bars of {bars}"),
            Check("sum", f"{prefix}bars", f"the number of bars of {bars}"),
            Check("extremes", f"{prefix}high", f"high and low of the bars of {bars}"),
        ]
        if prefix:
            result.append(Check("subset", f"{prefix}volume", "volume, high and low within those of the session"))
    return result


def measure(contract: str, facts: SessionFacts, tick_size: float, value_area: float) -> Profile:
    """Measure the profiles of one contract.

    Args:
        contract: Contract code the rows must carry.
        facts: The files and the calendar.
        tick_size: Of the instrument, in points.
        value_area: Share of the volume that a value area holds at least.
    """
    columns = [Column(name, dtype) for name, dtype in SESSIONS.items()]

    def measure_rows(stored: pl.LazyFrame) -> Profile:
        names = stored.collect_schema().names()
        if "session" not in names:
            return profile_frame(stored, contract, columns)
        known = of_bars(pl.read_parquet(facts.bars, columns=["ts", "session", "rth", "high", "low", "volume"]))
        lazy = stored.collect().join(known, on="session", how="left", maintain_order="left").lazy()
        profile = profile_frame(lazy, contract, columns, row_rules(contract, tick_size, value_area), time="session")
        rows = stored.select("session", *(name for name in LEVELS if name in names)).collect()
        profile.measurements.extend(_against_files(contract, rows, known["session"], facts))
        return profile

    return measure_file(facts.path, contract, columns, measure_rows)


def of_bars(bars: pl.DataFrame) -> pl.DataFrame:
    """Return session and, with prefix ``of_``, bars, volume, high and low of each anchor, as the bars have them."""
    frame = bars.select(pl.col("session").unique().sort())
    for anchor, prefix in ANCHORS.items():
        figures = (
            select_anchor(bars, anchor)
            .group_by("session")
            .agg(
                pl.len().cast(pl.Int32).alias(f"of_{prefix}bars"),
                pl.col("volume").sum().alias(f"of_{prefix}volume"),
                pl.col("high").max().alias(f"of_{prefix}high"),
                pl.col("low").min().alias(f"of_{prefix}low"),
            )
        )
        frame = frame.join(figures, on="session", how="left", maintain_order="left")
    return frame


def row_rules(contract: str, tick_size: float, value_area: float) -> list[RowRule]:
    """Return the defects of single sessions; null levels of a session without volume are none."""
    day = pl.col("session")
    rules = [
        RowRule("contract", "contract", pl.col("contract") != contract),
        RowRule("order", "session", (day.diff() <= pl.duration(days=0)).fill_null(value=False)),
    ]
    for prefix in ANCHORS.values():
        low, high, volume, area = (pl.col(f"{prefix}{name}") for name in ("low", "high", "volume", "va_volume"))
        vpoc, vah, val = (pl.col(f"{prefix}{name}") for name in LEVELS)
        ticks, levels = vpoc / tick_size, (vpoc, vah, val)
        outside = pl.any_horizontal((level < low) | (level > high) for level in levels)
        share = (area < value_area * volume * (1 - TOLERANCE)) | (area > volume * (1 + TOLERANCE))
        extremes = high.ne_missing(pl.col(f"of_{prefix}high")) | low.ne_missing(pl.col(f"of_{prefix}low"))
        found = {
            ("inside", "vpoc"): outside,
            ("ordered", "vpoc"): (val > vpoc) | (vpoc > vah),
            ("traded", "vpoc"): (volume > 0) & pl.any_horizontal(level.is_null() | level.is_nan() for level in levels),
            ("tick", "vpoc"): (ticks - ticks.round()).abs() > TOLERANCE,
            ("area", "va_volume"): share,
            ("sum", "volume"): volume.ne_missing(pl.col(f"of_{prefix}volume")),
            ("sum", "bars"): pl.col(f"{prefix}bars").ne_missing(pl.col(f"of_{prefix}bars")),
            ("extremes", "high"): extremes,
        }
        if prefix:
            beyond = (volume > pl.col("volume")) | (high > pl.col("high")) | (low < pl.col("low"))
            found["subset", "volume"] = beyond
        rules += [RowRule(check, prefix + name, bad.fill_null(value=False)) for (check, name), bad in found.items()]
    return rules


def _against_files(contract: str, rows: pl.DataFrame, days: pl.Series, facts: SessionFacts) -> list[Measurement]:
    """Compare the sessions of the table (session, levels) with those of the bars, the calendar and the last bars."""
    have = rows["session"].unique().sort()
    span = facts.calendar.filter(pl.col("minutes") > 0, pl.col("session").is_between(*facts.front))
    due = span.filter(pl.col("session").is_between(days.min(), days.max()))["session"]
    measurements = [
        _sessions(contract, "missing_sessions", days.filter(~days.is_in(have.implode())), days.len()),
        _sessions(contract, "unknown_sessions", have.filter(~have.is_in(days.implode())), have.len()),
        _sessions(contract, "calendar", due.filter(~due.is_in(have.implode())), due.len()),
    ]
    if not set(LEVELS) <= set(rows.columns):
        return measurements
    last = pl.scan_parquet(facts.developing).select("session", *LEVELS).group_by("session", maintain_order=True).last()
    joined = rows.join(last.collect(), on="session", how="left", suffix="_last", maintain_order="left")
    other = joined.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_last")) for name in LEVELS))
    first, values = tuple(other["session"].head(EXAMPLES)), tuple(other["vpoc"].fill_null(float("nan")).head(EXAMPLES))
    return [
        *measurements,
        Measurement(contract, "vpoc", "final", other.height, rows.height, first, values, unit="sessions"),
    ]


def _sessions(contract: str, check: str, found: pl.Series, of: int) -> Measurement:
    first = tuple(found.sort().head(EXAMPLES))
    return Measurement(contract, "session", check, found.len(), max(of, 1), first, unit="sessions")
