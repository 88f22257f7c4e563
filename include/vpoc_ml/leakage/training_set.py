"""The training set: what is fitted, labelled and kept knows the training rows and nothing later."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.config import DatasetConfig
from vpoc_ml.leakage.market import Build, Market, moved
from vpoc_ml.leakage.violations import ALL, Violation, changed
from vpoc_ml.market.instruments import Instrument

CHECK = "training"
_FIT = "Fit on the training rows only, and store what was fitted."
_ROWS = "Choose rows by what is known at their bar; the label says what happened later."
_LABEL = "Take the close exactly the horizon later in the same session, else no label."
_GAP = "Drop whole sessions between two splits, and purge labels that end in the next one."
KEYS = ("ts", "contract", "session", "split")


@dataclass(frozen=True)
class Tables:
    """What a training set is made of: bars and features by contract, and the front periods."""

    bars: dict[str, pl.DataFrame]
    features: dict[str, pl.DataFrame]
    front: pl.DataFrame
    instrument: Instrument


class Fitted(NamedTuple):
    """A training set. ``frame``: ts, contract, session, split (train, validation, test), label_end, ret, y, and the
    features as the model gets them; ``statistics``: every number that was fitted.
    """

    frame: pl.DataFrame
    statistics: dict[str, Any]


Fit = Callable[[Tables], Fitted]


class Judged(NamedTuple):
    """How many rows of a training set were judged, and what is wrong with it."""

    rows: int
    violations: list[Violation]


def tables_of(markets: list[Market], build: Build) -> Tables:
    """Return bars and features of contracts that are front from their first bar to their last."""
    bars = {str(each.bars["contract"][0]): each.bars for each in markets}
    features = {str(each.bars["contract"][0]): build(each, None) for each in markets}
    periods = [
        {"contract": code, "first_session": frame["session"][0], "last_session": frame["session"][-1]}
        for code, frame in bars.items()
    ]
    return Tables(bars, features, pl.DataFrame(periods), markets[0].instrument)


def check_training(fit: Fit, build: Build, markets: list[Market], config: DatasetConfig, seed: int) -> Judged:
    """Judge a training set.

    Its training rows and everything fitted must not change when prices, volumes and features of every later session
    do; which rows it has must not depend on what follows them; a label must be the return over the horizon in time
    within one session of one contract; and the splits must lie in order, with the embargo and the horizon between.
    """
    tables = tables_of(markets, build)
    made = fit(tables)
    last = made.frame.filter(pl.col("split") == "train")["session"].max()
    assert isinstance(last, date)
    later = fit(tables_of([_disturbed(each, last, seed) for each in markets], build))
    violations = [
        *_fitted(made, later),
        *_chosen(fit, tables, made, seed),
        *_labels(made.frame, tables, config),
        *_gaps(made.frame, tables, config),
    ]
    return Judged(made.frame.height, violations)


def _disturbed(market: Market, last: date, seed: int) -> Market:
    """Return the market with other prices and volumes after the session ``last``."""
    draw = np.random.default_rng([seed, market.rows])
    after = (market.bars["session"] > last).to_numpy()
    ticks = np.where(after, draw.integers(30, 600, market.rows), 0)
    bars = moved(market.bars, ticks, market.instrument)
    return replace(market, bars=bars.with_columns(pl.col("volume") + pl.Series(ticks)))


def _fitted(made: Fitted, later: Fitted) -> list[Violation]:
    """Compare training rows and fitted numbers with those of other later sessions."""
    one, other = (each.frame.filter(pl.col("split") == "train") for each in (made, later))
    violations = []
    if one.columns != other.columns or not one.select(KEYS).equals(other.select(KEYS)):
        expected = f"the same {one.height} training rows and {one.width} columns"
        found = f"{other.height} and {other.width}, or others, when later sessions are others"
        violations.append(Violation(CHECK, ALL, None, None, expected, found, _FIT))
    else:
        violations += _moved_cells(one, other)
    for name, value in made.statistics.items():
        if repr(value) != repr(later.statistics.get(name)):
            expected, found = "the same when later sessions are others", "another value"
            violations.append(Violation(CHECK, name, None, None, expected, found, _FIT))
    return violations


def _moved_cells(one: pl.DataFrame, other: pl.DataFrame) -> list[Violation]:
    violations = []
    for name in (name for name in one.columns if one[name].dtype.is_float()):
        cells = [frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for frame in (one, other)]
        wrong = np.flatnonzero(changed(cells[0], cells[1]))
        if wrong.size:
            row = int(wrong[0])
            found = f"{cells[1][row]:.9g} when later sessions are others ({wrong.size} training rows differ)"
            violations.append(Violation(CHECK, name, one["ts"][row], row, f"{cells[0][row]:.9g}", found, _FIT))
    return violations


def _chosen(fit: Fit, tables: Tables, made: Fitted, seed: int) -> list[Violation]:
    """Compare the rows with those of other prices after every bar, the features being the same."""
    draw = np.random.default_rng([seed, 1])
    bars = {
        code: moved(frame, draw.integers(-400, 400, frame.height), tables.instrument)
        for code, frame in tables.bars.items()
    }
    rows, others = (each.frame.select(KEYS).sort("ts") for each in (made, fit(replace(tables, bars=bars))))
    if rows.equals(others):
        return []
    lost = rows.join(others, on=("ts", "contract"), how="anti")
    first = lost["ts"][0] if lost.height else None
    found = f"{others.height} rows, {lost.height} of these not among them, when the labels are others"
    return [Violation(CHECK, "rows", first, None, f"the same {rows.height} rows", found, _ROWS)]


def _labels(frame: pl.DataFrame, tables: Tables, config: DatasetConfig) -> list[Violation]:
    """Compare every label with the slow, obvious one."""
    closes: dict[tuple[str, date, datetime], float] = {}
    for bars in tables.bars.values():
        closes |= {(c, s, t): p for c, s, t, p in bars.select("contract", "session", "ts", "close").iter_rows()}
    horizon, clip = timedelta(minutes=config.horizon_minutes), config.return_clip
    for row, (contract, session, ts, ret) in enumerate(frame.select("contract", "session", "ts", "ret").iter_rows()):
        end = closes.get((contract, session, ts + horizon))
        start = closes[contract, session, ts]
        label = math.nan if end is None or min(start, end) <= 0 else math.log(end / start)
        expected = label if math.isnan(label) else min(max(label, -clip), clip)
        found = math.nan if ret is None else ret
        if not (math.isclose(found, expected, abs_tol=1e-12) or (math.isnan(found) and math.isnan(expected))):
            return [Violation(CHECK, "ret", ts, row, f"{expected:.9g}", f"{found:.9g}", _LABEL)]
    return []


def _gaps(frame: pl.DataFrame, tables: Tables, config: DatasetConfig) -> list[Violation]:
    """Report splits out of order, and pairs with less than the embargo or an overlapping label between them."""
    days = pl.concat([bars["session"] for bars in tables.bars.values()]).unique().sort()
    violations = []
    for before, after in (("train", "validation"), ("validation", "test")):
        one, other = (frame.filter(pl.col("split") == name) for name in (before, after))
        ends, begins = one["ts"].max(), other["ts"].min()
        assert isinstance(ends, datetime)
        assert isinstance(begins, datetime)
        between = int(days.is_between(one["session"].max(), other["session"].min(), closed="none").sum())
        known = ends + timedelta(minutes=config.horizon_minutes)
        if between < config.embargo_sessions or known >= begins:
            expected = f"{config.embargo_sessions} sessions between {before} and {after}, and no label across"
            found = f"{between} sessions; the last label ends {known.isoformat()}"
            violations.append(Violation(CHECK, after, begins, None, expected, found, _GAP))
    return violations
