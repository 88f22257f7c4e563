"""Age of a run's bars at its clock, and the session that each contract's bars must include."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from vpoc_ml.artifacts.stage_results import DataAge
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import reviewed_range, sessions
from vpoc_ml.market.nights import LONGEST_BREAK
from vpoc_ml.pipeline.run import Run


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
