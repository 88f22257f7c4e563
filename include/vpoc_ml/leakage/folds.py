"""Fold check: what a walk-forward fold fits, its policy, and the stack of a session depend on earlier sessions only.

Training reads one table, the rows of the fold's window, and no other. The check compares this table to the bit, so
early stopping is covered without training a network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.folds import FoldSessions
from vpoc_ml.leakage.comparison import ALL, KEYS, differences, earliest, feature_columns, shift_closes, shift_prices
from vpoc_ml.leakage.training_set import Tables, TrainingSet, fitted_differences
from vpoc_ml.market.instruments import Instrument

CHECK = "folds"
_FIT = "Fit on the window of the fold only: training and validation rows, nothing after them."
_EARLIER = "Choose and predict with what was known before the session began."
_GAP = "Leave the sessions of a gap out of every fit."
_PLAN = "Place the boundaries of a fold by earlier sessions only."
_ORDER = "End the window, and every label in it, before the test sessions, with the gap between them."
_ONCE = "Predict each session after the history in exactly one fold."

_PAST = "target"
"""Column that may read the bars before its own: the volatility that scales a target is that of the last bars."""


class FittedFold(NamedTuple):
    """What a fold fitted, and its predictions.

    ``window``: the rows that it was fitted on (split train or validation, label_end, features) and each fitted number
    by name. ``track``: rows of ``predict_fold`` in the test sessions.
    """

    window: TrainingSet
    track: pl.DataFrame


FitFold = Callable[[Tables, FoldSessions], FittedFold]


@dataclass(frozen=True)
class WalkForward:
    """The steps of a walk-forward evaluation.

    ``plan`` returns the folds, oldest first. ``fit`` fits one and predicts its test sessions. ``choose`` returns the
    policy of every fold but the first by the fold's first session, from the track record with the column ``fold``.
    ``stack`` returns weights and slope of the sessions that have enough sessions before them, likewise.
    """

    plan: Callable[[Tables], Sequence[FoldSessions]]
    fit: FitFold
    choose: Callable[[pl.DataFrame, Instrument], dict[date, object]]
    stack: Callable[[pl.DataFrame], dict[date, object]]


class FoldsResult(NamedTuple):
    """The number of comparisons, and the first violation of each feature or number."""

    comparisons: int
    violations: list[Violation]


def check_folds(walk: WalkForward, tables: Tables, config: DatasetConfig, seed: int) -> FoldsResult:
    """Check a walk-forward evaluation.

    For each fold, prices, volumes and features of all sessions from its first test session on are replaced. Its
    window, its fitted numbers, its stack and policy, and the predictions of the folds before it must stay the same.
    When only the sessions from its last one on are replaced, the stack of every session up to this one must stay the
    same. Other data in the gaps must change nothing that the fold fits or predicts. Without the later sessions the
    folds must be the same. Each session after the history must be predicted once, by a fold whose window and labels end
    before it.
    """
    folds = walk.plan(tables)
    if len(folds) < 2:
        found = f"{len(folds)} folds"
        return FoldsResult(0, [Violation(CHECK, "plan", None, None, "two folds or more", found, _PLAN)])
    fitted, days = [walk.fit(tables, fold) for fold in folds], _days(tables)
    chosen = _chosen(walk, fitted, tables.instrument)
    violations = [*_check_order(folds, fitted, tables, config), *_check_plan(walk, tables, folds)]
    comparisons = 2 * len(folds)
    for number, fold in enumerate(folds):
        for begin in (fold.test[0], fold.test[-1]):
            how = f"when the sessions from {begin} on are replaced (fold {fold.name})"
            changed = replaced(tables, [day for day in days if day >= begin], seed)
            first = 0 if begin == fold.test[0] else number
            others = [*fitted[:first], *(walk.fit(changed, each) for each in folds[first : number + 1])]
            for one, other in zip(fitted[first : number + 1], others[first:], strict=True):
                known, now = (_forecasts(each.track.filter(pl.col("session") < begin)) for each in (one, other))
                violations += differences(CHECK, known, now, how, _EARLIER)
            violations += fitted_differences(CHECK, fitted[number].window, others[number].window, how, _FIT)
            violations += _check_choices(chosen, _chosen(walk, others, tables.instrument), begin, how)
            comparisons += number + 1 - first
        idle = _idle_sessions(fold, days, config)
        if idle:
            how = f"when the gaps of fold {fold.name} are replaced"
            other = walk.fit(replaced(tables, idle, seed), fold)
            one = fitted[number]
            violations += fitted_differences(CHECK, _without_past(one.window), _without_past(other.window), how, _GAP)
            violations += differences(CHECK, _forecasts(one.track), _forecasts(other.track), how, _GAP)
            comparisons += 1
    return FoldsResult(comparisons, earliest(violations))


def _chosen(walk: WalkForward, fitted: Sequence[FittedFold], instrument: Instrument) -> dict[str, dict[date, object]]:
    track = _joined(fitted)
    policies = walk.choose(track, instrument) if len(fitted) > 1 else {}  # the first fold has none
    return {"policy": policies, "stack": walk.stack(track)}


def _check_choices(
    chosen: Mapping[str, Mapping[date, object]], again: Mapping[str, Mapping[date, object]], last: date, how: str
) -> Iterator[Violation]:
    """Report what was chosen for a session up to ``last`` and is another choice now."""
    for name, by_session in chosen.items():
        known, now = ({day: repr(each[day]) for day in each if day <= last} for each in (by_session, again[name]))
        changed = sorted(day for day in known.keys() | now.keys() if known.get(day) != now.get(day))
        if changed:
            found = f"another one for {changed[0]}"
            yield Violation(CHECK, name, None, None, f"the same {how}", found, _EARLIER)


def replaced(tables: Tables, days: Collection[date], seed: int) -> Tables:
    """Return the tables with other prices, volumes and features in the sessions ``days``.

    The new features contain the next bar's move, each with a sign of its own. Whatever is fitted on these sessions
    finds skill there that the original ones lack, so a choice out of few values changes too.
    """
    draw = np.random.default_rng([seed, len(days)])
    names = feature_columns(next(iter(tables.features.values())))
    signs = draw.choice([-1.0, 1.0], len(names)).tolist()
    bars, features = {}, {}
    for code, frame in tables.bars.items():
        inside = frame["session"].is_in(list(days))
        ticks = np.where(inside, draw.integers(30, 600, frame.height), 0)
        moved = shift_prices(frame, ticks, tables.instrument)
        moved = shift_closes(moved, np.where(inside, draw.integers(-40, 40, frame.height), 0), tables.instrument)
        bars[code] = moved.with_columns(pl.col("volume") + pl.Series(ticks))
        move = (moved["close"] - moved["open"]).shift(-1, fill_value=0.0) / (20 * tables.instrument.tick_size)
        move = pl.select(pl.when(inside).then(move).otherwise(0.0).alias("move")).to_series()
        own = tables.features[code]
        features[code] = own.with_columns(
            pl.when(inside)
            .then(pl.col(name) + sign * pl.col(name).fill_nan(None).std() * move)
            .otherwise(name)
            .cast(own[name].dtype)
            .alias(name)
            for name, sign in zip(names, signs, strict=True)
        )
    return replace(tables, bars=bars, features=features)


def _check_order(
    folds: Sequence[FoldSessions], fitted: Sequence[FittedFold], tables: Tables, config: DatasetConfig
) -> list[Violation]:
    """Report windows that reach into a gap or the test sessions, and sessions that are not predicted once."""
    days, violations = _days(tables), list[Violation]()
    for fold, each in zip(folds, fitted, strict=True):
        parts = [each.window.frame.filter(pl.col("split") == name) for name in ("train", "validation")]
        for before, after in ((parts[0], parts[1]), (parts[1], each.track)):
            violations += _check_gap(fold.name, before, after, days, config.embargo_sessions)
        rows = each.window.frame.filter(~pl.col("session").is_in([*fold.train, *fold.validation]))
        if rows.height:
            found = f"{rows.height} others (fold {fold.name})"
            violations.append(
                Violation(CHECK, "rows", rows["ts"][0], None, "rows of the window's sessions", found, _FIT)
            )
    return [*violations, *_check_once(folds, fitted, tables, config)]


def _check_once(
    folds: Sequence[FoldSessions], fitted: Sequence[FittedFold], tables: Tables, config: DatasetConfig
) -> list[Violation]:
    """Report sessions after the history that are not predicted by exactly one fold, and rows predicted twice.

    Without a price step at the roll, a label over n sessions is missing in the last n sessions of a contract.
    """
    horizon = config.horizon.later_sessions
    unlabelled = {
        day
        for bars in tables.bars.values()
        for day in bars["session"].unique().sort()[bars["session"].n_unique() - horizon :]
    }
    first = folds[0].test[0]
    planned = Counter(day for fold in folds for day in fold.test)
    predicted = Counter(day for each in fitted for day in each.track["session"].unique())
    violations = list[Violation]()
    for day in (day for day in _days(tables) if day >= first or predicted[day]):
        if planned[day] != 1 or predicted[day] != 1 - (day in unlabelled):
            found = f"{planned[day]} planned and {predicted[day]} predicted for {day}"
            violations.append(Violation(CHECK, "sessions", None, None, "one fold for each session", found, _ONCE))
    track = _joined(fitted)
    repeated = track.filter(track.select("ts", "contract").is_duplicated())
    if repeated.height:
        found = f"{repeated.height} rows more than once"
        violations.append(Violation(CHECK, "sessions", repeated["ts"][0], None, "each row once", found, _ONCE))
    return violations


def _check_gap(
    fold: str, before: pl.DataFrame, after: pl.DataFrame, days: Sequence[date], embargo: int
) -> Iterator[Violation]:
    """Report two parts of a fold with less than the embargo, or with a label, between them."""
    begins, between = after["ts"].min(), 0
    first, last = after["session"].min(), before["session"].max()
    if isinstance(first, date) and isinstance(last, date):
        between = sum(last < day < first for day in days)
        late = before.filter((pl.col("label_end") >= begins) | (pl.col("ts") >= begins))
        if first > last and between >= embargo and late.is_empty():
            return
    expected = f"{embargo} sessions between the parts of fold {fold}, and no label across"
    found = f"{last!s} before {first!s}, {between} sessions between them"
    yield Violation(CHECK, ALL, None, None, expected, found, _ORDER)


def _check_plan(walk: WalkForward, tables: Tables, folds: Sequence[FoldSessions]) -> list[Violation]:
    """Compare the folds with those that are planned when nothing after a fold's first test session exists."""
    for number, fold in enumerate(folds):
        last = fold.test[0]  # the tables as they were after this session
        front = tables.front.filter(pl.col("first_session") <= last)
        front = front.with_columns(pl.min_horizontal("last_session", pl.lit(last)))
        bars, features = (
            {code: frames[code].filter(pl.col("session") <= last) for code in front["contract"]}
            for frames in (tables.bars, tables.features)
        )
        known = walk.plan(replace(tables, bars=bars, features=features, front=front))
        expected = [*folds[:number], replace(fold, test=fold.test[:1])]
        if list(known) != expected:
            text = f"the same folds up to {fold.name} without the sessions after {last}"
            return [Violation(CHECK, "plan", None, None, text, f"{len(known)} folds, or others", _PLAN)]
    return []


def _idle_sessions(fold: FoldSessions, days: Sequence[date], config: DatasetConfig) -> list[date]:
    """Return the sessions of the fold's gaps in which no label of its window ends."""
    ends = config.horizon.later_sessions
    idle: list[date] = []
    for before, after in ((fold.train, fold.validation), (fold.validation, fold.test)):
        gap = [day for day in days if before[-1] < day < after[0]]
        idle += gap[ends:]
    return idle


def _without_past(window: TrainingSet) -> TrainingSet:
    return window._replace(frame=window.frame.drop(_PAST, strict=False))


def _days(tables: Tables) -> list[date]:
    return pl.concat([frame["session"] for frame in tables.bars.values()]).unique().sort().to_list()


def _joined(fitted: Sequence[FittedFold]) -> pl.DataFrame:
    """Return the track record of folds, oldest first; ``fold`` is the number of the fold."""
    parts = [each.track.with_columns(fold=pl.lit(str(number))) for number, each in enumerate(fitted)]
    return pl.concat(parts).sort("ts", "contract")


def _forecasts(track: pl.DataFrame) -> pl.DataFrame:
    """Return keys and forecasts of a track record without labels and prices, which may end in a later session."""
    return track.drop("label_end", "ret", "ret_close", "y", "entry_price", "exit_price", strict=False).select(
        *KEYS, pl.exclude(KEYS)
    )
