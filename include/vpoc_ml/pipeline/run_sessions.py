"""The sessions of a run: how old its newest bar is, which session each contract must reach, and whether they suffice.

Too few sessions for a training set are known before any feature is computed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from vpoc_ml.artifacts.run_summary import DataAge
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.dataset.folds import first_test_session
from vpoc_ml.dataset.splits import (
    MIN_PART_SESSIONS,
    ONE_SPLIT_REMEDY,
    REMEDY,
    explain_sessions_needed,
    first_sessions,
    sessions_needed,
)
from vpoc_ml.errors import InsufficientSessionsError
from vpoc_ml.features.history import required_history
from vpoc_ml.features.registry import Feature, families_of, selected_features
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import reviewed_range, sessions
from vpoc_ml.market.nights import LONGEST_BREAK
from vpoc_ml.pipeline.run import Run
from vpoc_ml.pipeline.stages import is_after

Periods = Mapping[str, Mapping[str, Any]]


class WarmUp(NamedTuple):
    """Sessions and bars that must lie before a row in which the chosen features are complete, and which need most."""

    sessions: int
    bars: int
    text: str


class Front(NamedTuple):
    """Sessions of one contract's front period: all, the usable ones, and how many more its warm-up would take."""

    sessions: int
    usable: int
    missing: int


def refuse_too_few(run: Run, contracts: Sequence[str], last: str) -> None:
    """Refuse a run up to stage ``last`` whose front contracts hold too few sessions for what it makes of them.

    A session is usable when its last row has what the chosen features read before it: in the contract itself or, from
    the roll on, in its predecessors, as the roll table says.

    Raises:
        InsufficientSessionsError: too few sessions; the error gives the arithmetic.
    """
    if is_after("training-set", last):
        return
    folds = run.config.evaluation.fold != "off" and not is_after("plan-folds", last)
    least = 1 if folds or is_after("evaluate", last) else MIN_PART_SESSIONS
    needed, warm_up = sessions_needed(run.config.dataset, least), _warm_up(run)
    reason = explain_sessions_needed(run.config.dataset, least)
    if folds:
        history = first_test_session(run.config.dataset, run.config.evaluation)
        if history + MIN_PART_SESSIONS > needed:
            needed = history + MIN_PART_SESSIONS
            reason = f"{history} before the first walk-forward fold + {MIN_PART_SESSIONS} in it (evaluation.fold)"
    fronts = _fronts(run, contracts, warm_up)
    usable = sum(front.usable for front in fronts)
    if usable >= needed:
        return
    found = sum(front.sessions for front in fronts)
    lost = found - usable + (fronts[-1].missing if fronts else warm_up.sessions)
    arithmetic = f"{lost} in the warm-up of the features ({warm_up.text}) + {reason}"
    share = run.config.data.fraction
    cut = f" in the first {share:g} of the history (data.fraction)" if share < 1 else ""
    what = f"the front periods of {', '.join(contracts)}{cut}"
    remedy = REMEDY if folds else ONE_SPLIT_REMEDY
    raise InsufficientSessionsError(what, found, lost + needed, arithmetic, remedy)


def _warm_up(run: Run) -> WarmUp:
    """Return what the features of the training set need before a row that is complete."""
    known = selected_features(families_of(run.config.features), vix=run.uses_vix, covariates=run.covariates)
    features = [known[name] for name in run.config.features.names or known if name in known]
    # a window of bars declares sessions too, because a file may begin late in one; its bars are what it needs
    daily: list[Feature] = [each for each in features if not each.warmup_bars]
    sessions = max(daily, key=lambda each: each.warmup_sessions, default=None)
    bars = max(features, key=lambda each: each.warmup_bars, default=None)
    longest = [f"{sessions.name}: {sessions.warmup_sessions} sessions"] if sessions else []
    longest += [f"{bars.name}: {bars.warmup_bars} bars"] if bars and bars.warmup_bars else []
    return WarmUp(
        sessions.warmup_sessions if sessions else 0, bars.warmup_bars if bars else 0, ", ".join(longest) or "none"
    )


def _fronts(run: Run, contracts: Sequence[str], warm_up: WarmUp) -> list[Front]:
    """Return what each front period of these contracts holds, in order of time."""

    def counts(bars: pl.DataFrame) -> str:
        rows = bars.group_by("session").len().sort("session").rows()
        return json.dumps([(day.isoformat(), count) for day, count in rows])

    table = run.lake.read_frame(run.roll_key())
    periods = {row["contract"]: row for row in table.iter_rows(named=True)}
    held = {}
    for code in periods:
        key = run.key("bars", code)
        if run.lake.manifest(key) is not None:
            text = run.lake.cached(key, "bars a session", ("session",), counts)
            held[code] = {date.fromisoformat(day): bars for day, bars in json.loads(text)}
    days = {code: pl.Series(list(bars), dtype=pl.Date) for code, bars in held.items()}
    chosen_periods = table.filter(pl.col("contract").is_in(contracts)).sort("first_session")
    cut = first_sessions(chosen_periods, days, run.config.data.fraction)
    fronts = []
    for period in cut.iter_rows(named=True):
        own = held[period["contract"]]
        covered = _is_covered(run, periods, held, period)
        count = usable = before = 0
        for index, (day, bars) in enumerate(own.items()):
            before += bars
            if period["first_session"] <= day <= period["last_session"]:
                count += 1
                usable += covered or (index >= warm_up.sessions and before > warm_up.bars)
        fronts.append(Front(count, usable, 0 if usable else max(warm_up.sessions - len(own), 0)))
    return fronts


def _is_covered(run: Run, periods: Periods, held: Mapping[str, Mapping[date, int]], period: Mapping[str, Any]) -> bool:
    """Return whether the predecessors' last front sessions cover the warm-up, so that the front period has none."""
    needed = required_history(families_of(run.config.features))
    history: list[int] = []
    row: Mapping[str, Any] | None = period
    while row is not None and row["ratio"] is not None and row["predecessor"] in held and len(history) < needed.history:
        row = periods.get(row["predecessor"])
        if row is not None:
            first, last = row["first_session"], row["last_session"]
            history += [bars for day, bars in reversed(list(held[row["contract"]].items())) if first <= day <= last]
    history = history[: needed.history]
    return len(history) >= needed.sessions and sum(history) >= needed.bars


def data_age(run: Run, contracts: Sequence[str]) -> DataAge:
    """Return the newest bar of the contracts and its age.

    The age is the number of sessions that were over at the run's clock and lie after the newest bar's session; 0
    where the newest session is the last one or still trades.
    """
    newest_bars = [manifest.last_ts for each in contracts if (manifest := run.lake.manifest(run.key("bars", each)))]
    newest = max(ts for ts in newest_bars if ts is not None)
    since = datetime.fromisoformat(newest).date()
    late = _over(run, since).filter(pl.col("open") > datetime.fromisoformat(newest))
    return DataAge(newest_bar=newest, age_sessions=late.height)


def due_sessions(run: Run, contracts: Sequence[str]) -> dict[str, date]:
    """Return, by contract, the day whose session its bars must reach; empty where bars of any age are allowed.

    A contract must reach the last session that was over at the run's clock, or the one before its scheduled roll if
    that is earlier: exports may end with the roll. A contract that is not the front one yet may trade rarely and has
    no such day. The newest contract must reach the clock, roll or not, unless the run names its contracts: a run of
    single contracts is complete with them.
    """
    if run.config.quality.max_age_sessions == ANY_AGE:
        return {}
    over = _over(run, run.started.date() - LONGEST_BREAK)["session"]
    if over.is_empty():
        return {}
    last: date = over[-1]
    chain = sorted(map(parse_contract, contracts))
    begun = [each for each in chain if each.previous.scheduled_roll <= last]
    due = {each.code: min(last, each.scheduled_roll - timedelta(days=1)) for each in begun}
    if not run.config.data.contracts:
        due[(begun or chain)[-1].code] = last
    return due


def _over(run: Run, first: date) -> pl.DataFrame:
    """Return the sessions from ``first`` on that were over at the run's clock."""
    calendar = run.instrument.calendar
    known, end = reviewed_range(calendar)
    last = min(run.started.date() + timedelta(days=1), end)
    if first > last:
        return sessions(calendar, last, last).clear()
    return sessions(calendar, max(first, known), last).filter(pl.col("close") <= run.started)
