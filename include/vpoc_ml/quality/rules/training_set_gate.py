"""The questions of gate ``training-set``: labels, splits and features that cannot leak or poison training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from vpoc_ml.artifacts.schemas import SPLITS, TRAINING_KEYS
from vpoc_ml.config import DatasetConfig, QualityConfig
from vpoc_ml.features.optional_registry import ALL_FEATURES
from vpoc_ml.quality.checks import ALL, NONE, Check, Limit, Measurement
from vpoc_ml.quality.common import FILE_CHECKS, as_declared, measure_file, schema_check
from vpoc_ml.quality.outliers import outlier_checks
from vpoc_ml.quality.passes import EXAMPLES, Bounds, Column, RowRule
from vpoc_ml.quality.profile import Profile, profile_frame
from vpoc_ml.quality.rules.young_contracts import Varying, excuse_young, young_check

LABELLED = pl.col("weight") == 1


class _EveryBar(NamedTuple):
    """How a column that has another value at every bar varies: a target, or a feature nobody knows."""

    variation_sessions: int = 1
    resting_values: tuple[float, ...] = ()


def columns(features: Sequence[str], dataset: DatasetConfig) -> list[Column]:
    """Return the columns of a training set with their bounds, features in model order."""
    bounds: dict[str, Bounds] = {
        "ret": (-dataset.return_clip, dataset.return_clip),
        "y": (0.0, 1.0),
        "weight": (0.0, 1.0),
    }
    keys = [Column(name, dtype, hard=bounds.get(name, (None, None))) for name, dtype in TRAINING_KEYS.items()]
    keys += [Column(name, pl.Float32()) for name in _own_target(dataset)]
    return [*keys, *(Column(name, pl.Float32()) for name in features)]


def checks(features: Sequence[str], dataset: DatasetConfig, config: QualityConfig) -> list[Check]:
    """Return every question of the gate: some of the whole run, the others of each contract."""
    file = [replace(check, whole_run=True) for check in FILE_CHECKS]
    schema = [replace(schema_check(column), whole_run=True) for column in columns(features, dataset)]
    keys = [Check("null", name, "no null") for name in ("ts", "session", "split")]
    asked = [*file, *schema, *keys, *_label_checks(dataset), *_split_checks(dataset, config), young_check("columns")]
    for name in _own_target(dataset):
        asked += [
            Check("finite", name, "a finite target in every labelled row"),
            Check("constant", name, "targets that vary"),
        ]
    for name in features:
        asked += [
            Check("finite", name, "finite features in every labelled row"),
            Check("constant", name, "a column that varies", None, warn_if=NONE),
            *outlier_checks(name, ALL_FEATURES.get(name), config),
        ]
    return asked


def measure(
    path: Path, features: Sequence[str], calendar: pl.DataFrame, dataset: DatasetConfig
) -> tuple[list[str], list[Profile]]:
    """Return the contracts of a training set, and the profiles of the whole file and of each contract."""
    expected = columns(features, dataset)

    def whole(lazy: pl.LazyFrame) -> Profile:
        rows = int(lazy.select(pl.len()).collect(engine="streaming").item())
        names = lazy.collect_schema().names()
        usable = rows and {"split", "ts", "label_end", "ret", "weight", "session"} <= set(names)
        return Profile(ALL, rows, pl.DataFrame(), _split_tallies(lazy, calendar, dataset) if usable else [])

    run = measure_file(path, ALL, expected, whole)
    if not run.rows or any(t.count for t in run.measurements if (t.check, t.column) == ("schema", "contract")):
        return [], [run]
    lazy = as_declared(pl.scan_parquet(path), expected)
    codes = lazy.select(pl.col("contract").unique()).collect(engine="streaming")["contract"]
    contracts = sorted(codes.drop_nulls().to_list())
    rules = _rules([*_own_target(dataset), *features])

    def of_contract(code: str) -> Profile:
        own = lazy.filter(pl.col("contract") == code)
        profile = profile_frame(own, code, expected, rules)
        varying: dict[str, Varying] = {
            name: ALL_FEATURES.get(name, _EveryBar()) for name in ("y", *_own_target(dataset), *features)
        }
        complete = {"ts", "session"} <= set(lazy.collect_schema().names())
        measurements = excuse_young(own, code, profile.measurements, varying, {}) if complete else profile.measurements
        return replace(profile, measurements=measurements)

    return contracts, [run, *map(of_contract, contracts)]


def _own_target(dataset: DatasetConfig) -> list[str]:
    """Return the column of a target that is not the rank ``y``."""
    return [] if dataset.target == "rank" else ["target"]


def _rules(finite: Sequence[str]) -> list[RowRule]:
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


def _label_checks(dataset: DatasetConfig) -> Sequence[Check]:
    clip = dataset.return_clip
    return (
        Check("order", "ts", "stamps that strictly increase"),
        Check("two_splits", "ts", "each stamp in one split only"),
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
    )


def _split_checks(dataset: DatasetConfig, config: QualityConfig) -> list[Check]:
    asked = []
    for split in SPLITS:
        smaller = f"the smaller of up and down at least {config.class_share_min:.0%} of both"
        asked += [
            Check("rows", _name(split), "labelled rows", whole_run=True),
            Check("balance", _name(split), smaller, Limit(share=1 - config.class_share_min), whole_run=True),
            Check(
                "zero",
                _name(split),
                "returns that are not zero",
                None,
                warn_if=Limit(share=config.zero_share_max),
                whole_run=True,
            ),
        ]
    for earlier, later in pairwise(SPLITS):
        embargo = f"{dataset.embargo_sessions} whole sessions between {earlier} and {later}"
        asked += [
            Check("purged", _name(later), f"rows after the last label of {earlier} has ended", whole_run=True),
            Check("embargo", _name(later), embargo, whole_run=True),
        ]
    return asked


def _name(split: str) -> str:
    return f"split {split}"


def _split_tallies(lazy: pl.LazyFrame, calendar: pl.DataFrame, dataset: DatasetConfig) -> list[Measurement]:
    """Tally size and balance of every split, and what separates each from the one before it."""
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
    measurements = [measurement for split in SPLITS for measurement in _balance(split, splits.get(split))]
    for earlier, later in pairwise(SPLITS):
        if earlier in splits and later in splits:
            measurements.append(_purged(lazy, later, splits[earlier]["ends"]))
            between = _sessions_between(calendar, splits[earlier]["last"], splits[later]["first"])
            short = max(0, dataset.embargo_sessions - between)
            note = f"{between} sessions between {splits[earlier]['last']} and {splits[later]['first']}"
            asked = max(dataset.embargo_sessions, 1)
            measurements.append(
                Measurement(ALL, _name(later), "embargo", short, asked, note=note if short else "", unit="sessions")
            )
    return measurements


def _balance(split: str, row: dict[str, Any] | None) -> list[Measurement]:
    counts = row or {"labelled": 0, "up": 0, "down": 0, "zero": 0}
    up, down, labelled = counts["up"], counts["down"], counts["labelled"]
    note = f"{up:,} up, {down:,} down, {counts['zero']:,} unchanged"
    return [
        Measurement(
            ALL,
            _name(split),
            "rows",
            int(labelled == 0),
            1,
            note="split is empty" if not labelled else "",
            unit="splits",
        ),
        Measurement(ALL, _name(split), "balance", max(up, down, 1), up + down, note=note, unit="moves"),
        Measurement(ALL, _name(split), "zero", counts["zero"], labelled, note=note),
    ]


def _purged(lazy: pl.LazyFrame, later: str, ends: datetime) -> Measurement:
    rows = lazy.filter(pl.col("split") == later).select("ts").sort("ts").collect(engine="streaming")["ts"]
    early = rows.filter(rows <= ends)
    return Measurement(ALL, _name(later), "purged", early.len(), rows.len(), tuple(early.head(EXAMPLES)))


def _sessions_between(calendar: pl.DataFrame, last: date, first: date) -> int:
    between = pl.col("session").is_between(last, first, closed="none") & (pl.col("minutes") > 0)
    return calendar.filter(between).height
