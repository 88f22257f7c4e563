"""The questions of gate ``features``: are the features finite, bounded, alive and of the same bars?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Protocol

import polars as pl

from vpoc_ml.artifacts.schemas import FEATURE_KEYS
from vpoc_ml.config import QualityConfig
from vpoc_ml.features.non_positive_prices import reads_non_positive
from vpoc_ml.features.registry import PriceLookback
from vpoc_ml.quality.checks import Check, Limit, Measurement
from vpoc_ml.quality.common import FILE_CHECKS, measure_file, schema_check, session_starts
from vpoc_ml.quality.outliers import outlier_checks
from vpoc_ml.quality.passes import EXAMPLES, Bounds, Column, RowRule
from vpoc_ml.quality.profile import Profile, profile_frame
from vpoc_ml.quality.rules.young_contracts import excuse_young, young_check

NO_LEVEL = "no_level"
"""Column of the profiled rows: a volume profile that the row's level features read holds no volume."""
LEVEL_SESSIONS = 6
"""Sessions before its own that a level feature reads; naked levels read more and count a missing one as none."""


class FeatureBounds(Protocol):
    """What the gate knows of a feature; an infinite bound is an open side."""

    @property
    def family(self) -> str: ...
    @property
    def hard(self) -> tuple[float, float]: ...
    @property
    def soft(self) -> tuple[float, float]: ...
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
    """Return keys and features; with the sessions' starts given, each feature knows where its warm-up ends."""
    keys = [Column(name, dtype) for name, dtype in FEATURE_KEYS.items()]
    return [*keys, *(_feature(name, known, starts) for name, known in registry.items())]


def _feature(name: str, known: FeatureBounds, starts: Sequence[tuple[date, int]]) -> Column:
    return Column(
        name,
        pl.Float32(),
        _closed(known.hard),
        _closed(known.soft),
        finite_from=_warm_from(known, starts) or date.max,
        excused=None if (gap := _gap(known)) is None else pl.col(gap),
    )


def _gap(known: FeatureBounds) -> str | None:
    """Return the column that marks the rows in which a feature has no value; None: it always has one."""
    if known.family == "levels":
        return NO_LEVEL
    return None if known.price_lookback is None else _gap_of(known.price_lookback)


def _gap_of(reach: PriceLookback) -> str:
    return f"non_positive_{reach.back}_{reach.unit}"


def _warm_from(known: FeatureBounds, starts: Sequence[tuple[date, int]]) -> date | None:
    """Return the first whole session after a feature's warm-up; None when the contract ends before."""
    later = (day for day, before in starts[known.warmup_sessions :] if before >= known.warmup_bars)
    return next(later, None)


def _closed(bounds: tuple[float, float]) -> Bounds:
    """Return the pair with None for an open side."""
    low, high = (bound if isfinite(bound) else None for bound in bounds)
    return low, high


def checks(
    registry: Mapping[str, FeatureBounds], config: QualityConfig, chosen: Mapping[str, FeatureBounds] | None = None
) -> list[Check]:
    """Return every check of the gate: the file has all of ``registry``; ``chosen`` (None: all) each have their own."""
    asked = [
        *FILE_CHECKS,
        *(schema_check(column) for column in columns(registry)),
        *(Check("null", name, "no null") for name in FEATURE_KEYS),
        Check("contract", "contract", "the contract's own code in every row"),
        Check("order", "ts", "stamps that strictly increase"),
        Check("missing_bars", "ts", "a row for every bar"),
        Check("unknown_bars", "ts", "no row without a bar"),
        young_check("features"),
    ]
    for name, known in (registry if chosen is None else chosen).items():
        asked += _feature_checks(name, known, config)
    return asked


def measure(
    path: Path,
    contract: str,
    bars: Path,
    registry: Mapping[str, FeatureBounds],
    chosen: Mapping[str, FeatureBounds] | None = None,
) -> Profile:
    """Profile keys and ``chosen`` features (None: all) of a file of ``registry``; compare its keys with the bars'."""
    judged_features = registry if chosen is None else chosen

    def work(lazy: pl.LazyFrame) -> Profile:
        names = lazy.collect_schema().names()
        starts = session_starts(lazy) if "session" in names else []
        ts = pl.col("ts")
        rules = [
            RowRule("contract", "contract", pl.col("contract") != contract),
            RowRule("order", "ts", (ts.diff() <= pl.duration(seconds=0)).fill_null(value=False)),
        ]
        gaps = _gaps(pl.scan_parquet(bars), judged_features) if {"ts", "session"} <= set(names) else []
        flagged = _flagged(lazy, gaps, judged_features)
        profile = profile_frame(flagged, contract, columns(judged_features, starts), rules)
        keys = _key_tallies(lazy, pl.scan_parquet(bars), contract, profile.rows) if "ts" in names else []
        judged = profile.measurements
        if starts and "ts" in names:
            judged = excuse_young(lazy, contract, judged, judged_features, _cold(judged_features, starts))
        return Profile(contract, profile.rows, profile.frame, [*judged, *keys])

    return measure_file(path, contract, columns(registry), work)


def _flagged(lazy: pl.LazyFrame, gaps: Sequence[pl.DataFrame], registry: Mapping[str, FeatureBounds]) -> pl.LazyFrame:
    """Return the rows with a column for each kind of gap that a feature may have."""
    for gap in gaps:
        lazy = lazy.join(gap.lazy(), on="ts", how="left", maintain_order="left")
    marked = {name for gap in gaps for name in gap.columns if name != "ts"}
    absent = {name for known in registry.values() if (name := _gap(known)) is not None} - marked
    return lazy.with_columns(
        *(pl.col(name).fill_null(value=False) for name in sorted(marked)),
        *(pl.lit(value=False).alias(name) for name in sorted(absent)),
    )


def _gaps(bars: pl.LazyFrame, registry: Mapping[str, FeatureBounds]) -> list[pl.DataFrame]:
    """Return ``ts`` and marks of the bars in which some features have no value, for each cause that occurs."""
    return [found for found in (_without_levels(bars), _non_positive(bars, registry)) if found is not None]


def _non_positive(bars: pl.LazyFrame, registry: Mapping[str, FeatureBounds]) -> pl.DataFrame | None:
    """Return ``ts`` and, for each reach, whether a feature of it reads a price at or below 0; None without such prices.

    Most instruments have none, so all bars are read only after their minimum.
    """
    reaches = sorted({known.price_lookback for known in registry.values() if known.price_lookback is not None})
    if not reaches or not {"ts", "session", "low"} <= set(bars.collect_schema().names()):
        return None
    if not bars.select((pl.col("low") <= 0).any()).collect(engine="streaming").item():
        return None
    rows = bars.select("ts", "session", "low").collect(engine="streaming").unique("ts", maintain_order=True)
    low, day = rows["low"].to_numpy(), rows["session"].rle_id().cast(pl.Int64).to_numpy()
    marks = [pl.Series(_gap_of(reach), reads_non_positive(low, day, reach)) for reach in reaches]
    return rows.select("ts", *marks)


def _without_levels(bars: pl.LazyFrame) -> pl.DataFrame | None:
    """Return ``ts`` and ``NO_LEVEL`` of the bars whose level features miss a level; None where there are none.

    A session has no level before its first trade; a session without volume leaves those after it without one. Bars
    without volume are rare, so only they and the sessions after a silent one are read.
    """
    if "volume" not in bars.collect_schema().names():
        return None
    daily = bars.group_by("session").agg(
        pl.col("volume").sum(), pl.col("ts").filter(pl.col("volume") > 0).min().alias("first_trade")
    )
    silent = pl.any_horizontal(
        (pl.col("volume").shift(ago) == 0).fill_null(value=False) for ago in range(LEVEL_SESSIONS + 1)
    )
    table = daily.sort("session").with_columns(silent.alias("silent")).select("session", "first_trade", "silent")
    missing = pl.col("silent") | (pl.col("ts") < pl.col("first_trade"))
    joined = bars.select("ts", "session").join(table, on="session").filter(missing)
    found = joined.select("ts", pl.lit(value=True).alias(NO_LEVEL)).collect(engine="streaming")
    return None if found.is_empty() else found


def _cold(registry: Mapping[str, FeatureBounds], starts: Sequence[tuple[date, int]]) -> dict[str, str]:
    """Return the features whose warm-up the contract has not left, with what they need; they only yield no row."""
    cold = {name: known for name, known in registry.items() if _warm_from(known, starts) is None}
    return {name: f"needs {_lookback(known)} before, has {len(starts)} in all" for name, known in cold.items()}


def _lookback(known: FeatureBounds) -> str:
    sessions = f"{known.warmup_sessions} session{'s' if known.warmup_sessions > 1 else ''}"
    return f"{sessions} and {known.warmup_bars} bars" if known.warmup_bars else sessions


def _key_tallies(features: pl.LazyFrame, bars: pl.LazyFrame, contract: str, rows: int) -> list[Measurement]:
    """Tally bars without a feature row and feature rows without a bar."""
    ours, theirs = features.select("ts"), bars.select("ts")
    measurements = []
    for check, left, right in (("missing_bars", theirs, ours), ("unknown_bars", ours, theirs)):
        lost = left.join(right, on="ts", how="anti").collect(engine="streaming")["ts"].sort()
        measurements.append(
            Measurement(contract, "ts", check, lost.len(), max(rows, lost.len()), tuple(lost.head(EXAMPLES)))
        )
    return measurements


def _feature_checks(name: str, known: FeatureBounds, config: QualityConfig) -> Sequence[Check]:
    low, high = _closed(known.hard)
    soft_low, soft_high = _closed(known.soft)
    asked = [
        Check("late", name, f"no NaN or null after {known.warmup_sessions} warm-up sessions"),
        Check("infinite", name, "no +Inf or -Inf"),
        Check("empty", name, "at least one finite value"),
        Check("constant", name, "a column that varies"),
    ]
    asked += outlier_checks(name, known, config)
    if low is not None or high is not None:
        asked.append(Check("outside", name, f"values in {_interval(low, high)}"))
    if soft_low is not None or soft_high is not None:
        usual = f"values in the usual range {_interval(soft_low, soft_high)}"
        asked.append(Check("soft", name, usual, None, warn_if=Limit(share=config.soft_range_warn)))
    return asked


def _interval(low: float | None, high: float | None) -> str:
    left = "(-inf" if low is None else f"[{low:g}"
    right = "inf)" if high is None else f"{high:g}]"
    return f"{left}, {right}"
