"""Checks of gate ``training-set``: labels, splits and features cannot leak the future or harm the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL, SHOWN, YOUNG
from vpoc_ml.artifacts.schemas import SPLITS, TRAINING_KEYS
from vpoc_ml.artifacts.stage_results import LOST_ROWS_WARN, RowLoss
from vpoc_ml.config import DatasetConfig, QualityThresholds
from vpoc_ml.features.registry import known_features
from vpoc_ml.quality.checks import FILE_CHECKS, NONE, Check, Limit, Measurement, schema_check
from vpoc_ml.quality.measure import (
    EXAMPLES,
    UNBOUNDED,
    Bounds,
    Column,
    Profile,
    RowRule,
    declared_columns,
    measure_file,
    profile_frame,
)
from vpoc_ml.quality.rules.features_gate import outlier_checks
from vpoc_ml.quality.rules.young_contracts import Varying, excuse_young

LABELLED = pl.col("weight") == 1


@dataclass(frozen=True, slots=True)
class EveryBar:
    """How a column varies that has another value at every bar: a target, or a feature outside the registry."""

    variation_sessions: int = 1
    resting_values: tuple[float, ...] = ()


def columns(features: Sequence[str], dataset: DatasetConfig) -> list[Column]:
    """Return the columns of a training set with their bounds, features in model order."""
    bounds: dict[str, Bounds] = {
        "ret": (-dataset.return_clip, dataset.return_clip),
        "y": (0.0, 1.0),
        "weight": (0.0, 1.0),
    }
    keys = [Column(name, dtype, hard=bounds.get(name, UNBOUNDED)) for name, dtype in TRAINING_KEYS.items()]
    return [*keys, *(Column(name, pl.Float32()) for name in (*_own_target(dataset), *features))]


def checks(features: Sequence[str], dataset: DatasetConfig, config: QualityThresholds) -> list[Check]:
    """Return every check of the gate: some are made once a run, the others once per contract."""
    clip = dataset.return_clip
    file = [*FILE_CHECKS, *(schema_check(column.name, column.dtype) for column in columns(features, dataset))]
    result = [
        *(replace(check, whole_run=True) for check in file),
        *(Check("null", name, "no null") for name in ("ts", "session", "split")),
        Check("order", "ts", "timestamps that strictly increase"),
        Check("two_splits", "ts", "each timestamp in one split only"),
        Check("known", "split", f"one of {', '.join(SPLITS)}"),
        Check("outside", "ret", f"returns in [-{clip:g}, {clip:g}]"),
        Check("infinite", "ret", "no +Inf or -Inf"),
        Check("outside", "y", "targets in [0, 1]"),
        Check("infinite", "y", "no +Inf or -Inf"),
        Check("empty", "y", "at least one finite target"),
        Check("constant", "y", "targets that vary"),
        Check("labelled", "weight", "weight 1 where return and target are finite, else 0"),
        Check("after", "label_end", "labels that end after their bar"),
        Check("price", "entry_price", "an entry price above 0 in every labelled row"),
        Check("price", "exit_price", "an exit price above 0 in every labelled row"),
    ]
    smaller = f"the smaller of up and down at least {config.class_share_min:.0%} of both"
    balance, zero = Limit(share=1 - config.class_share_min), Limit(share=config.zero_share_max)
    for split in SPLITS:
        column = f"split {split}"
        result += [
            Check("rows", column, "labelled rows", whole_run=True),
            Check("balance", column, smaller, balance, whole_run=True),
            Check("zero", column, "returns that are not zero", None, warn_if=zero, whole_run=True),
        ]
    for before, after in pairwise(SPLITS):
        column, embargo = f"split {after}", f"{dataset.embargo_sessions} whole sessions between {before} and {after}"
        result += [
            Check("purged", column, f"rows after the last label of {before} has ended", whole_run=True),
            Check("embargo", column, embargo, whole_run=True),
        ]
    result.append(Check(YOUNG, ALL, "enough sessions to check every one of its columns", None, info_if=NONE))
    for name in _own_target(dataset):
        result += [
            Check("finite", name, "a finite target in every labelled row"),
            Check("constant", name, "targets that vary"),
        ]
    known = known_features()
    for name in features:
        result += [
            Check("finite", name, "finite features in every labelled row"),
            Check("constant", name, "a column that varies", None, warn_if=NONE),
            *outlier_checks(name, known.get(name), config),
        ]
    return result


def measure(
    path: Path, features: Sequence[str], calendar: pl.DataFrame, dataset: DatasetConfig
) -> tuple[list[str], list[Profile]]:
    """Return the contracts of a training set, and the profiles of the file and of each contract in it."""
    expected = columns(features, dataset)
    target = _own_target(dataset)

    def measure_run(lazy: pl.LazyFrame) -> Profile:
        rows = int(lazy.select(pl.len()).collect(engine="streaming").item())
        names = lazy.collect_schema().names()
        usable = rows and {"split", "ts", "label_end", "ret", "weight", "session"} <= set(names)
        return Profile(ALL, rows, pl.DataFrame(), split_measurements(lazy, calendar, dataset) if usable else [])

    run = measure_file(path, ALL, expected, measure_run)
    if not run.rows or any(m.count for m in run.measurements if (m.check, m.column) == ("schema", "contract")):
        return [], [run]
    lazy = declared_columns(pl.scan_parquet(path), expected)
    codes = lazy.select(pl.col("contract").unique()).collect(engine="streaming")["contract"]
    contracts = sorted(codes.drop_nulls().to_list())
    known = known_features()
    varying: dict[str, Varying] = {name: known.get(name, EveryBar()) for name in ("y", *target, *features)}
    profiles = [run]
    for code in contracts:
        own = lazy.filter(pl.col("contract") == code).collect().lazy()  # each check would read the file again
        profile = profile_frame(own, code, expected, _row_rules([*target, *features]))
        if {"ts", "session"} <= set(lazy.collect_schema().names()):
            profile = replace(profile, measurements=excuse_young(own, code, profile.measurements, varying, {}))
        profiles.append(profile)
    return contracts, profiles


def loss_check() -> Check:
    """Return the warning about rows that the warm-ups of the features cost."""
    few = Limit(share=LOST_ROWS_WARN)
    return Check("warm_up", ALL, "front periods with the history of their features", None, warn_if=few, whole_run=True)


def loss_measurement(losses: Sequence[RowLoss]) -> Measurement:
    """Return the rows of all front periods that warm-ups cost; the note names the contracts and the reasons."""
    texts = [loss.text for loss in losses if loss.lost]
    note = "; ".join(texts[:SHOWN]) + (f"; and {len(texts) - SHOWN} more contracts" if len(texts) > SHOWN else "")
    lost, rows = sum(loss.lost for loss in losses), sum(loss.rows for loss in losses)
    return Measurement(ALL, ALL, "warm_up", lost, rows, note=note)


def split_measurements(lazy: pl.LazyFrame, calendar: pl.DataFrame, dataset: DatasetConfig) -> list[Measurement]:
    """Measure size and balance of every split, and what separates each split from the one before it."""
    labelled, ret = LABELLED.fill_null(value=False), pl.col("ret")
    table = lazy.group_by("split").agg(
        labelled.sum().alias("labelled"),
        (labelled & (ret > 0)).sum().alias("up"),
        (labelled & (ret < 0)).sum().alias("down"),
        (labelled & (ret == 0)).sum().alias("zero"),
        pl.max_horizontal(pl.col("label_end").max(), pl.col("ts").max()).alias("ends"),
        pl.col("session").min().alias("first"),
        pl.col("session").max().alias("last"),
    )
    splits = {row["split"]: row for row in table.collect(engine="streaming").iter_rows(named=True)}
    measurements = []
    for split in SPLITS:
        counts, column = splits.get(split, {}), f"split {split}"
        up, down, zero, rows_labelled = (counts.get(name, 0) for name in ("up", "down", "zero", "labelled"))
        note, empty = f"{up:,} up, {down:,} down, {zero:,} unchanged", "" if rows_labelled else "split is empty"
        measurements += [
            Measurement(ALL, column, "rows", int(rows_labelled == 0), 1, note=empty, unit="splits"),
            Measurement(ALL, column, "balance", max(up, down, 1), up + down, note=note, unit="moves"),
            Measurement(ALL, column, "zero", zero, rows_labelled, note=note),
        ]
    for before, after in pairwise(SPLITS):
        if before in splits and after in splits:
            column = f"split {after}"
            rows = lazy.filter(pl.col("split") == after).select("ts").sort("ts").collect(engine="streaming")["ts"]
            early = rows.filter(rows <= splits[before]["ends"])
            last, first = splits[before]["last"], splits[after]["first"]
            inside = pl.col("session").is_between(last, first, closed="none") & (pl.col("minutes") > 0)
            between = calendar.filter(inside).height
            short = max(0, dataset.embargo_sessions - between)
            note = f"{between} sessions between {last} and {first}" if short else ""
            required = max(dataset.embargo_sessions, 1)
            measurements += [
                Measurement(ALL, column, "purged", early.len(), rows.len(), tuple(early.head(EXAMPLES))),
                Measurement(ALL, column, "embargo", short, required, note=note, unit="sessions"),
            ]
    return measurements


def _own_target(dataset: DatasetConfig) -> list[str]:
    """Return the column of a target that is not the rank ``y``."""
    return [] if dataset.target.kind == "rank" else ["target"]


def _row_rules(finite: Sequence[str]) -> list[RowRule]:
    ts = pl.col("ts")
    first = ts.is_first_distinct()
    target = pl.col("ret").is_finite() & pl.col("y").is_finite()
    prices = [pl.col(name).is_finite() & (pl.col(name) > 0) for name in ("entry_price", "exit_price")]
    return [
        RowRule("order", "ts", (ts.diff() <= pl.duration(seconds=0)).fill_null(value=False)),
        RowRule("two_splits", "ts", ~first & pl.struct("ts", "split").is_first_distinct()),
        RowRule("known", "split", ~pl.col("split").is_in(list(SPLITS))),
        RowRule("labelled", "weight", pl.col("weight") != target.fill_null(value=False).cast(pl.Float32)),
        RowRule("after", "label_end", LABELLED & ~(pl.col("label_end") > ts).fill_null(value=False)),
        *(
            RowRule("price", name, LABELLED & ~good.fill_null(value=False))
            for name, good in zip(("entry_price", "exit_price"), prices, strict=True)
        ),
        *(RowRule("finite", name, LABELLED & ~pl.col(name).is_finite().fill_null(value=False)) for name in finite),
    ]
