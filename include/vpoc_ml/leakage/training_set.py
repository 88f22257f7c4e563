"""Training-set check: fitted values, labels and the choice of rows depend on the training rows only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.config import DatasetConfig
from vpoc_ml.leakage.comparison import ALL, Build, Market, changed, shift_closes, shift_prices
from vpoc_ml.market.instruments import Instrument

CHECK = "training"
_FIT = "Fit on the training rows only, and store what was fitted."
_ROWS = "Choose rows by what is known at their bar; the label contains what happened later."
_LABEL = "Take the close exactly the horizon later, from the next open or the close, else no label."
_GAP = "Drop full sessions between two splits, and purge labels that end in the next one."
KEYS = ("ts", "contract", "session", "split")


@dataclass(frozen=True)
class Tables:
    """The input of a training set: bars and features by contract, and the front periods."""

    bars: dict[str, pl.DataFrame]
    features: dict[str, pl.DataFrame]
    front: pl.DataFrame
    instrument: Instrument

    @classmethod
    def of_markets(cls, markets: list[Market], build: Build) -> Tables:
        """Return bars and features of contracts that are front from their first bar to their last."""
        bars = {str(each.bars["contract"][0]): each.bars for each in markets}
        features = {str(each.bars["contract"][0]): build(each, None) for each in markets}
        periods = [
            {"contract": code, "first_session": frame["session"][0], "last_session": frame["session"][-1]}
            for code, frame in bars.items()
        ]
        return cls(bars, features, pl.DataFrame(periods), markets[0].instrument)


class TrainingSet(NamedTuple):
    """A training set and what was fitted for it.

    ``frame``: ts, contract, session, split (train, validation, test), label_end, ret, y, and the features as the model
    receives them. ``statistics``: every fitted number by name.
    """

    frame: pl.DataFrame
    statistics: dict[str, object]


Fit = Callable[[Tables], TrainingSet]


class TrainingSetResult(NamedTuple):
    """The number of rows of the checked training set, and the violations."""

    rows: int
    violations: list[Violation]


def check_training(
    fit: Fit, build: Build, markets: list[Market], config: DatasetConfig, seed: int
) -> TrainingSetResult:
    """Check a training set.

    Training rows and fitted values must not change when prices, volumes and features of every later session do. A label
    over n sessions ends in one of the next n sessions, at the close of the last bar, so these bars alone stay. The
    choice of rows must not depend on what follows them. A label must be the return over the horizon in time, within one
    session of one contract or to the close of its later session. The splits must be in order, with the embargo and the
    horizon between them.
    """
    tables = Tables.of_markets(markets, build)
    original = fit(tables)
    last = original.frame.filter(pl.col("split") == "train")["session"].max()
    assert isinstance(last, date)
    days = pl.concat([bars["session"] for bars in tables.bars.values()]).unique().sort()
    ends = days.filter(days > last).head(config.horizon.later_sessions)
    later = [_perturb_sessions_after(each, last, ends, seed) for each in markets]
    perturbed = fit(Tables.of_markets(later, build))
    one, other = (each._replace(frame=each.frame.filter(pl.col("split") == "train")) for each in (original, perturbed))
    violations = [
        *fitted_differences(CHECK, one, other, "when later sessions are replaced", _FIT),
        *_check_rows(fit, tables, original, seed),
        *_check_labels(original.frame, tables, config),
        *_check_gaps(original.frame, tables, config),
    ]
    return TrainingSetResult(original.frame.height, violations)


def _perturb_sessions_after(market: Market, last: date, ends: pl.Series, seed: int) -> Market:
    """Return the market with other prices and volumes after the session ``last``.

    The last bar of each session in ``ends`` stays as it is: labels of the session ``last`` and earlier ones end there.
    """
    draw = np.random.default_rng([seed, market.rows])
    day = pl.col("session")
    exit_bar = day.is_in(ends.implode()) & (pl.col("ts") == pl.col("ts").last().over("session"))
    after = market.bars.select((day > last) & ~exit_bar).to_series().to_numpy()
    ticks = np.where(after, draw.integers(30, 600, market.rows), 0)
    bars = shift_prices(market.bars, ticks, market.instrument)
    bars = shift_closes(bars, np.where(after, draw.integers(-40, 40, market.rows), 0), market.instrument)
    return replace(market, bars=bars.with_columns(pl.col("volume") + pl.Series(ticks)))


def fitted_differences(check: str, one: TrainingSet, other: TrainingSet, how: str, remedy: str) -> list[Violation]:
    """Return a violation for each column and each fitted value in which two training sets differ.

    Args:
        check: name of the check.
        one: the training set as it should be.
        other: the same rows, columns and values, as they are.
        how: how ``other`` was computed, such as "when later sessions are replaced".
        remedy: what to do about a difference.
    """
    violations = []
    if one.frame.columns != other.frame.columns or not one.frame.select(KEYS).equals(other.frame.select(KEYS)):
        expected = f"the same {one.frame.height} rows and {one.frame.width} columns"
        found = f"{other.frame.height} and {other.frame.width}, or others, {how}"
        violations.append(Violation(check, ALL, None, None, expected, found, remedy))
    else:
        for name in (name for name in one.frame.columns if one.frame[name].dtype.is_float()):
            was, now = (each.frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for each in (one, other))
            wrong = np.flatnonzero(changed(was, now))
            if wrong.size:
                row = int(wrong[0])
                found = f"{now[row]:.9g} {how} ({wrong.size} rows differ)"
                violations.append(Violation(check, name, one.frame["ts"][row], row, f"{was[row]:.9g}", found, remedy))
    for name, value in one.statistics.items():
        if repr(value) != repr(other.statistics.get(name)):
            violations.append(Violation(check, name, None, None, f"the same {how}", "another value", remedy))
    return violations


def _check_rows(fit: Fit, tables: Tables, original: TrainingSet, seed: int) -> list[Violation]:
    """Compare the rows with those for other prices after every bar and the same features."""
    draw = np.random.default_rng([seed, 1])
    bars = {}
    for code, frame in tables.bars.items():
        moved = shift_prices(frame, draw.integers(-400, 400, frame.height), tables.instrument)
        bars[code] = shift_closes(moved, draw.integers(-400, 400, frame.height), tables.instrument)
    rows, others = (each.frame.select(KEYS).sort("ts") for each in (original, fit(replace(tables, bars=bars))))
    if rows.equals(others):
        return []
    lost = rows.join(others, on=("ts", "contract"), how="anti")
    first = lost["ts"][0] if lost.height else None
    found = f"{others.height} rows, without {lost.height} of these, when the labels are replaced"
    return [Violation(CHECK, "rows", first, None, f"the same {rows.height} rows", found, _ROWS)]


def _check_labels(frame: pl.DataFrame, tables: Tables, config: DatasetConfig) -> list[Violation]:
    """Compare every label with its definition, computed row by row."""
    clip = config.return_clip
    wanted: dict[tuple[str, datetime], float] = {}
    for contract, bars in tables.bars.items():
        wanted |= {(contract, ts): label for ts, label in _labels_by_definition(bars, config)}
    for row, (contract, ts, ret) in enumerate(frame.select("contract", "ts", "ret").iter_rows()):
        label = wanted[contract, ts]
        expected = label if math.isnan(label) else min(max(label, -clip), clip)
        found = math.nan if ret is None else ret
        if not (math.isclose(found, expected, abs_tol=1e-12) or (math.isnan(found) and math.isnan(expected))):
            return [Violation(CHECK, "ret", ts, row, f"{expected:.9g}", f"{found:.9g}", _LABEL)]
    return []


def _labels_by_definition(bars: pl.DataFrame, config: DatasetConfig) -> Iterator[tuple[datetime, float]]:
    """Yield ts and unclipped label of every bar of one contract, without a common path with the product's labels.

    The roll table of the check has no ratio, so a label over sessions ends in its own contract or not at all.
    """
    days = [part.rows(named=True) for part in bars.partition_by("session", maintain_order=True)]
    horizon = config.horizon
    for number, day in enumerate(days):
        at = {bar["ts"]: bar for bar in day}
        for place, bar in enumerate(day):
            if horizon.kind == "minutes":
                last = at.get(bar["ts"] + timedelta(minutes=horizon.count))
            elif horizon.kind == "close":
                last = day[-1]
            else:
                last = days[number + horizon.count][-1] if number + horizon.count < len(days) else None
            label = math.nan
            if last is not None and place + 1 < len(day) and day[place + 1]["ts"] <= last["ts"]:
                start = day[place + 1]["open"] if config.label == "next_open" else bar["close"]
                if min(start, day[place + 1]["open"], last["close"]) > 0:
                    label = math.log(last["close"] / start)
            yield bar["ts"], label


def _check_gaps(frame: pl.DataFrame, tables: Tables, config: DatasetConfig) -> list[Violation]:
    """Report splits out of order, and pairs with less than the embargo or an overlapping label between them."""
    days = pl.concat([bars["session"] for bars in tables.bars.values()]).unique().sort()
    horizon, violations = config.horizon, []
    for before, after in (("train", "validation"), ("validation", "test")):
        one, other = (frame.filter(pl.col("split") == name) for name in (before, after))
        ends, begins = one["ts"].max(), other["ts"].min()
        assert isinstance(ends, datetime)
        assert isinstance(begins, datetime)
        between = int(days.is_between(one["session"].max(), other["session"].min(), closed="none").sum())
        known = ends + timedelta(minutes=horizon.count) if horizon.kind == "minutes" else one["label_end"].max()
        assert isinstance(known, datetime)
        if between < config.embargo_sessions or known >= begins:
            expected = f"{config.embargo_sessions} sessions between {before} and {after}, and no label across"
            found = f"{between} sessions; the last label ends {known.isoformat()}"
            violations.append(Violation(CHECK, after, begins, None, expected, found, _GAP))
    return violations
