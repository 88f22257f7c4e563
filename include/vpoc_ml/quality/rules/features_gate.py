"""Checks of gate ``features``: the features are finite, bounded, not constant, and belong to the same bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Protocol

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL, YOUNG
from vpoc_ml.artifacts.schemas import FEATURE_KEYS
from vpoc_ml.config import QualityThresholds
from vpoc_ml.features.non_positive_prices import reads_non_positive
from vpoc_ml.features.registry import PriceLookback
from vpoc_ml.market.roll_table import describe_steps
from vpoc_ml.quality.checks import FILE_CHECKS, KEPT, NONE, Check, Limit, Measurement, schema_check
from vpoc_ml.quality.measure import (
    EXAMPLES,
    MAD_WIDTH,
    Bounds,
    Column,
    Profile,
    RowRule,
    duplicate_columns,
    measure_file,
    profile_frame,
    session_starts,
)
from vpoc_ml.quality.rules.young_contracts import LEAST_ROWS, excuse_young

NO_LEVEL = "no_level"
"""Flag of the rows whose level features have no value, because a volume profile that they read holds no volume."""
ROLL = "roll"
"""Column of the check on the step at the roll, which no feature column has."""
LEVEL_SESSIONS = 6
"""Sessions before its own that a level feature reads. Naked levels read more, but count a missing session as none."""


class FeatureBounds(Protocol):
    """What the gate must know of a feature; an infinite bound is an open side."""

    @property
    def family(self) -> str: ...
    @property
    def hard(self) -> Bounds: ...
    @property
    def soft(self) -> Bounds: ...
    @property
    def warmup_sessions(self) -> int: ...
    @property
    def warmup_bars(self) -> int: ...
    @property
    def variation_sessions(self) -> int: ...
    @property
    def resting_values(self) -> tuple[float, ...]: ...
    @property
    def price_lookback(self) -> PriceLookback | None: ...


def columns(registry: Mapping[str, FeatureBounds], starts: Sequence[tuple[date, int]] = ()) -> list[Column]:
    """Return keys and features. ``starts`` are the sessions with the rows before each, from which warm-ups follow."""
    result = [Column(name, dtype) for name, dtype in FEATURE_KEYS.items()]
    for name, known in registry.items():
        flag = missing_flag(known)
        excused = None if flag is None else pl.col(flag)
        warm = first_warm_session(known, starts) or date.max
        result.append(Column(name, pl.Float32(), known.hard, known.soft, finite_from=warm, excused=excused))
    return result


def missing_flag(known: FeatureBounds) -> str | None:
    """Return the column that flags the rows in which a feature has no value; None: it always has one."""
    if known.family == "levels":
        return NO_LEVEL
    lookback = known.price_lookback
    return None if lookback is None else f"non_positive_{lookback.back}_{lookback.unit}"


def first_warm_session(known: FeatureBounds, starts: Sequence[tuple[date, int]]) -> date | None:
    """Return the first full session after a feature's warm-up; None when the contract ends before it."""
    warm = (day for day, rows_before in starts[known.warmup_sessions :] if rows_before >= known.warmup_bars)
    return next(warm, None)


def checks(
    registry: Mapping[str, FeatureBounds], config: QualityThresholds, chosen: Mapping[str, FeatureBounds] | None = None
) -> list[Check]:
    """Return every check of the gate: the file has all columns of ``registry``; the features of ``chosen`` (None: of
    ``registry``) have checks of their values."""
    result = [
        *FILE_CHECKS,
        *(schema_check(name, dtype) for name, dtype in FEATURE_KEYS.items()),
        *(schema_check(name, pl.Float32()) for name in registry),
        *(Check("null", name, "no null") for name in FEATURE_KEYS),
        Check("contract", "contract", "the contract's own code in every row"),
        Check("order", "ts", "timestamps that strictly increase"),
        Check("missing_bars", "ts", "a row for every bar"),
        Check("unknown_bars", "ts", "no row without a bar"),
        Check(YOUNG, ALL, "enough sessions to check every one of its features", None, info_if=NONE),
    ]
    for name, known in (registry if chosen is None else chosen).items():
        result += [
            Check("late", name, f"no NaN or null after {known.warmup_sessions} warm-up sessions"),
            Check("infinite", name, "no +Inf or -Inf"),
            Check("empty", name, "at least one finite value"),
            Check("constant", name, "a column that varies"),
            Check("duplicate", name, "values that differ from those of every other feature"),
            *outlier_checks(name, known, config),
        ]
        if any(map(isfinite, known.hard)):
            result.append(Check("outside", name, f"values in {_interval(known.hard)}"))
        if any(map(isfinite, known.soft)):
            usual = f"values in the usual range {_interval(known.soft)}"
            result.append(Check("soft", name, usual, None, warn_if=Limit(share=config.soft_range_warn)))
    return result


def roll_check() -> Check:
    """Return the warning about a contract whose step at the roll is not measured."""
    return Check("step", ROLL, "a step measured in minutes in which both contracts traded", None, warn_if=NONE)


def roll_measurements(contracts: Sequence[str], rolls: pl.DataFrame) -> list[Measurement]:
    """Return for each contract whether its step at the roll is stated, estimated or unknown, with source and gap.

    Args:
        contracts: Contracts of the run.
        rolls: The roll table. A contract that is not in it or has no predecessor has no roll.
    """
    unknown = rolls.filter(pl.col("predecessor").is_not_null() & pl.col("ratio").is_null())
    notes = describe_steps(rolls)
    notes |= {code: f"no ratio to {before}" for code, before in unknown.select("contract", "predecessor").iter_rows()}
    return [
        Measurement(code, ROLL, "step", int(code in notes), 1, note=notes.get(code, ""), unit="rolls")
        for code in contracts
    ]


def outlier_checks(name: str, known: FeatureBounds | None, config: QualityThresholds) -> list[Check]:
    """Return the warning about values far from the median.

    There is none for a feature whose largest possible value is a usual one: MAD says nothing about shares and
    clipped values.
    """
    if known is not None and all(map(isfinite, known.hard)) and known.soft[1] == known.hard[1]:
        return []
    limit = Limit(share=config.outlier_warn)
    return [Check("beyond", name, "values within 5 MAD of the median", None, warn_if=limit)]


def measure(
    path: Path,
    contract: str,
    bars: Path,
    registry: Mapping[str, FeatureBounds],
    chosen: Mapping[str, FeatureBounds] | None = None,
) -> Profile:
    """Measure keys and ``chosen`` features (None: all) of a file of ``registry``; compare its keys with the bars'."""
    checked = registry if chosen is None else chosen
    ts = pl.col("ts")
    rules = [
        RowRule("contract", "contract", pl.col("contract") != contract),
        RowRule("order", "ts", (ts.diff() <= pl.duration(seconds=0)).fill_null(value=False)),
    ]

    def measure_rows(stored: pl.LazyFrame) -> Profile:
        lazy = stored.collect().lazy()  # one contract fits into memory; each check would read the file again
        names = lazy.collect_schema().names()
        starts = session_starts(lazy) if "session" in names else []
        flagged = with_missing_flags(lazy, pl.scan_parquet(bars), checked)
        profile = profile_frame(flagged, contract, columns(checked, starts), rules)
        same = duplicate_columns(lazy, profile.frame, LEAST_ROWS)
        notes = {name: f"the same values as {same[name]}" if name in same else "" for name in checked}
        measurements = profile.measurements + [
            Measurement(contract, name, "duplicate", profile.rows if note else 0, profile.rows, note=note)
            for name, note in notes.items()
        ]
        if starts and "ts" in names:
            cold = {}
            for name, known in checked.items():
                if first_warm_session(known, starts) is None:
                    needed = f"{known.warmup_sessions} session{'s' if known.warmup_sessions > 1 else ''}"
                    needed += f" and {known.warmup_bars} bars" if known.warmup_bars else ""
                    cold[name] = f"needs {needed} before, has {len(starts)} in all"
            measurements = excuse_young(lazy, contract, measurements, checked, cold)
        if "ts" in names:
            ours, theirs, measurements = lazy.select("ts"), pl.scan_parquet(bars).select("ts"), list(measurements)
            for check, left, right in (("missing_bars", theirs, ours), ("unknown_bars", ours, theirs)):
                lost = left.join(right, on="ts", how="anti").collect(engine="streaming")["ts"].sort()
                first, count, found = tuple(lost.head(EXAMPLES)), lost.len(), lost.head(KEPT).to_frame()
                measurements.append(
                    Measurement(contract, "ts", check, count, max(profile.rows, count), first, found=found)
                )
        return Profile(contract, profile.rows, profile.frame, measurements)

    return measure_file(path, contract, columns(registry), measure_rows)


def usual_bounds(known: FeatureBounds, profile: pl.DataFrame, check: str) -> Bounds | None:
    """Return the bounds of checks ``soft`` and ``beyond`` of a feature with this profile; None for other checks."""
    if check != "beyond" or profile.is_empty():
        return known.soft if check == "soft" else None
    median, mad = profile.select("median", "mad").row(0)
    return median - MAD_WIDTH * mad, median + MAD_WIDTH * mad


def unusual_rows(path: Path, column: str, bounds: Bounds) -> pl.DataFrame:
    """Return the first ``KEPT`` rows (ts, value) of a feature that are finite and outside these bounds."""
    x, (low, high) = pl.col(column).cast(pl.Float64), bounds
    rows = pl.scan_parquet(path).filter(x.is_finite() & ((x < low) | (x > high)))
    return rows.select("ts", x.alias("value")).head(KEPT).collect(engine="streaming")


def with_missing_flags(
    features: pl.LazyFrame, bars: pl.LazyFrame, registry: Mapping[str, FeatureBounds]
) -> pl.LazyFrame:
    """Return the feature rows with a boolean column for each reason why a feature may have no value.

    Args:
        features: Rows of one contract.
        bars: The contract's bars.
        registry: The features whose flags are needed.
    """
    needed = sorted({flag for known in registry.values() if (flag := missing_flag(known)) is not None})
    if {"ts", "session"} <= set(features.collect_schema().names()):
        for flags in (_without_levels(bars) if NO_LEVEL in needed else None, _non_positive(bars, registry)):
            if flags is not None:
                features = features.join(flags.lazy(), on="ts", how="left", maintain_order="left")
    present = features.collect_schema().names()
    flagged = (pl.col(flag) if flag in present else pl.lit(value=False).alias(flag) for flag in needed)
    return features.with_columns(flag.fill_null(value=False) for flag in flagged)


def _non_positive(bars: pl.LazyFrame, registry: Mapping[str, FeatureBounds]) -> pl.DataFrame | None:
    """Return ``ts`` and, for each lookback, whether it holds a price at or below 0; None without such prices.

    Most instruments have none, so the bars are read only after their minimum.
    """
    lookbacks = {
        missing_flag(each): each.price_lookback for each in registry.values() if each.price_lookback is not None
    }
    if not lookbacks or not {"ts", "session", "low"} <= set(bars.collect_schema().names()):
        return None
    if not bars.select((pl.col("low") <= 0).any()).collect(engine="streaming").item():
        return None
    rows = bars.select("ts", "session", "low").collect(engine="streaming").unique("ts", maintain_order=True)
    low, day = rows["low"].to_numpy(), rows["session"].rle_id().cast(pl.Int64).to_numpy()
    flags = [pl.Series(str(flag), reads_non_positive(low, day, lookback)) for flag, lookback in lookbacks.items()]
    return rows.select("ts", *flags)


def _without_levels(bars: pl.LazyFrame) -> pl.DataFrame | None:
    """Return ``ts`` and ``NO_LEVEL`` of the bars whose level features miss a level; None where there are none.

    A session has no level before its first trade, and a session without volume leaves the next ones without a level.
    Bars without volume are rare, so only they and the sessions after one without volume are read.
    """
    if "volume" not in bars.collect_schema().names():
        return None
    daily = bars.group_by("session").agg(
        pl.col("volume").sum(), pl.col("ts").filter(pl.col("volume") > 0).min().alias("first_trade")
    )
    no_volume = pl.any_horizontal(
        (pl.col("volume").shift(ago) == 0).fill_null(value=False) for ago in range(LEVEL_SESSIONS + 1)
    )
    table = daily.sort("session").with_columns(no_volume=no_volume).select("session", "first_trade", "no_volume")
    missing = pl.col("no_volume") | (pl.col("ts") < pl.col("first_trade"))
    joined = bars.select("ts", "session").join(table, on="session").filter(missing)
    found = joined.select("ts", pl.lit(value=True).alias(NO_LEVEL)).collect(engine="streaming")
    return None if found.is_empty() else found


def _interval(bounds: Bounds) -> str:
    low, high = bounds
    return f"{'[' if isfinite(low) else '('}{low:g}, {high:g}{']' if isfinite(high) else ')'}"
