"""The front contract of each session, the rolls between contracts, and the gap and ratio of each roll."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import polars as pl

from vpoc_ml.errors import ArtifactError, InvalidValueError
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instrument_files import MONTH_CODES, ROLL_RULES
from vpoc_ml.market.instruments import instrument

MEASURE_DAYS = 7
"""A gap is measured in a session at most this many days before the roll."""
MEASURE_MINUTES = 5
"""Smallest number of common minutes of that session."""

ENDS_BEFORE = timedelta(days=14)
"""A file without bars from this long before the expiry on has ended for the roll; an earlier gap is missing data."""

FRONT_PERIODS: dict[str, pl.DataType] = {
    "contract": pl.String(),
    "first_session": pl.Date(),
    "last_session": pl.Date(),
}
ROLLS: dict[str, pl.DataType] = {
    **FRONT_PERIODS,
    "predecessor": pl.String(),
    "gap": pl.Float64(),
    "ratio": pl.Float64(),
}


class _Day(NamedTuple):
    """Volume and open interest of the contracts in one session."""

    session: date
    volume: dict[Contract, int]
    interest: dict[Contract, int]


class RollStep(NamedTuple):
    """Price difference of a roll: ``new = old + gap`` (points) and ``new = old * ratio``."""

    gap: float | None
    ratio: float | None


def front_periods(daily: pl.DataFrame, rule: str = "volume") -> pl.DataFrame:
    """Return the front period of each contract: contract, first_session, last_session (Date, both inclusive).

    The rules, without look-ahead:

    * ``volume``: a later contract is front in the session AFTER the one in which it first traded more than the front
      contract: that volume is known when the session has ended.
    * ``open_interest``: in the second session after the one in which it first held more open interest: the exchange
      publishes the figure the next morning, when the next session has long begun.
    * ``calendar``: from the front contract's scheduled roll on, if it trades; the roll goes to the nearest contract
      of the instrument's cycle.

    An expired contract is replaced at once, because the expiry is known in advance. So is a front contract whose file
    has ended: one without a bar in a session in which a later contract traded. The rule ``volume`` applies this always
    (the front would change a session later anyway), the other rules only in the 14 days before the expiry. That a file
    holds nothing of a session is known from the session's first bars; a file that ends today has today's bars. The
    front never moves back to an earlier contract. A contract that was never front has no row. The last session must be
    complete: in part of a session the volume can cross over and come back.

    Args:
        daily: contract, session, volume (contracts traded), one row a contract and session; for ``open_interest``
            that column too (contracts held at the end of the session), null where unknown.
        rule: one of ``ROLL_RULES``.

    Raises:
        ContractCodeError: a contract's code cannot be read.
        InvalidValueError: no such rule.
        ArtifactError: the rule needs open interest and there is none.
    """
    if rule not in ROLL_RULES:
        raise InvalidValueError("data.roll_rule", rule, f"one of {', '.join(ROLL_RULES)}")
    known = "open_interest" in daily.columns and daily["open_interest"].is_not_null().any()
    if rule == "open_interest" and not daily.is_empty() and not known:
        raise ArtifactError("daily figures", "open interest, which data.roll_rule=open_interest reads", "none")
    periods: list[tuple[Contract, date, date]] = []
    front: Contract | None = None
    published: dict[Contract, int] = {}
    expiry = cache(lambda contract: contract.expiry)  # needed every session
    for day in _days(daily):
        front = _at_open(day, front, rule, expiry)
        if front is None:
            continue
        if periods and periods[-1][0] == front:
            periods[-1] = (front, periods[-1][1], day.session)
        else:
            periods.append((front, day.session, day.session))
        if rule == "volume":
            front = _crossed(day.volume, front)
        elif rule == "open_interest":
            front = _crossed(published, front) if front in published else front
            published |= day.interest
    return pl.DataFrame([(c.code, first, last) for c, first, last in periods], schema=FRONT_PERIODS, orient="row")


def roll_table(front: pl.DataFrame, measure: Callable[[str, str, date], RollStep]) -> pl.DataFrame:
    """Return ``front`` with each contract's predecessor and the gap and ratio of the roll.

    Args:
        front: ``front_periods`` of one instrument.
        measure: returns the step from one contract to the next at the first session of the next, as
            ``measure_roll`` does.

    Returns:
        contract, first_session, last_session, predecessor, gap (points, new minus old) and ratio (new over old);
        all three null for the first contract, gap and ratio also if nothing could be measured.
    """
    rows = []
    before: str | None = None
    for contract, first, last in front.select(*FRONT_PERIODS).iter_rows():
        step = measure(before, contract, first) if before is not None else RollStep(None, None)
        rows.append((contract, first, last, before, *step))
        before = contract
    return pl.DataFrame(rows, schema=ROLLS, orient="row")


def roll_problems(daily: pl.DataFrame, table: pl.DataFrame, calendar: Sequence[date]) -> list[str]:
    """Return a sentence for each front session without a bar and each roll that could not be measured.

    Args:
        daily: input of ``front_periods``.
        table: the roll table made from it.
        calendar: sessions of the instrument in the same period, in order.
    """
    delivered = set(daily.select("contract", "session").iter_rows())
    rows = table.rows(named=True)
    problems = []
    for row, following in pairwise([*rows, None]):
        assert row is not None
        code, first, last = row["contract"], row["first_session"], row["last_session"]
        end = following["first_session"] if following else last + timedelta(days=1)
        days = [day for day in calendar if first <= day < end and (code, day) not in delivered]
        if row["gap"] is not None and row["ratio"] is None:
            problems.append(
                f"{code}: {row['predecessor']} or {code} traded at or below 0 before {first}, where both did last:"
                f" a gap of {row['gap']:g} points and no ratio, so its features begin without the history of"
                f" {row['predecessor']}"
            )
        elif row["predecessor"] and row["ratio"] is None:
            problems.append(
                f"{code}: no session of the week before {first} in which {row['predecessor']} and {code} both traded:"
                f" no gap and ratio, so its features begin without the history of {row['predecessor']}"
            )
        if days:
            lacking = f"{len(days)} sessions, {days[0]} to {days[-1]}," if len(days) > 1 else f"session {days[0]}"
            problems.append(f"{code}: {lacking} without a bar of the front contract; deliver a longer file of {code}")
    return problems


def measure_roll(old: pl.DataFrame, new: pl.DataFrame, switch: date) -> RollStep:
    """Measure the step between two contracts in the last session before ``switch`` in which both traded.

    Only minutes in which both traded count, so that no price is stale. Only sessions before the switch count, so that
    the factor is known when it is first used. The median is used: within a day the gap moves by a tick or two, and a
    single late print moves a mean by more than that.

    Args:
        old: bars of the front contract before the switch: ts, session, close (points), volume.
        new: bars of the front contract from the switch on.
        switch: first session of ``new`` as the front contract.

    Returns:
        Gap and ratio; both null if no session of the week before has five common minutes, the ratio also if a price
        is not positive.
    """
    quotes = old.filter(pl.col("volume") > 0).select("ts", "session", "close")
    both = quotes.join(new.filter(pl.col("volume") > 0).select("ts", pl.col("close").alias("new")), on="ts")
    earliest = switch - timedelta(days=MEASURE_DAYS)
    both = both.filter(pl.col("session").is_between(earliest, switch, closed="left"))
    enough = both.group_by("session").len().filter(pl.col("len") >= MEASURE_MINUTES)["session"].max()
    if enough is None:
        return RollStep(None, None)
    both = both.filter(pl.col("session") == enough)
    old_close, new_close = pl.col("close"), pl.col("new")
    measured = both.select(gap=(new_close - old_close).median(), ratio=(new_close / old_close).median())
    positive = (both["new"] > 0).all() and (both["close"] > 0).all()
    return RollStep(measured["gap"][0], measured["ratio"][0] if positive else None)


def _days(daily: pl.DataFrame) -> list[_Day]:
    codes = {code: parse_contract(code, where="daily volume") for code in daily["contract"].unique().to_list()}
    interest = pl.col("open_interest") if "open_interest" in daily.columns else pl.lit(None, pl.Int64)
    days: dict[date, _Day] = {}
    rows = daily.select("contract", "session", "volume", interest.alias("open_interest"))
    for code, session, volume, held in rows.iter_rows():
        day = days.setdefault(session, _Day(session, {}, {}))
        day.volume[codes[code]] = volume or 0
        if held is not None:
            day.interest[codes[code]] = held
    return [days[session] for session in sorted(days)]


def _at_open(day: _Day, front: Contract | None, rule: str, expiry: Callable[[Contract], date]) -> Contract | None:
    """Return the front contract of a session as known before the session begins, or at its first bars."""
    left = expiry(front) - day.session if front is not None else timedelta(days=-1)
    ended = front not in day.volume and (rule == "volume" or left <= ENDS_BEFORE)  # its file holds no later bar
    if left < timedelta(0) or ended:
        front = _next_traded(day.volume, front) or front
    while rule == "calendar" and front is not None and day.session >= front.scheduled_roll:
        cycle = instrument(front.root).cycle
        in_cycle = {each: volume for each, volume in day.volume.items() if MONTH_CODES[each.month - 1] in cycle}
        following = _next_traded(in_cycle, front)
        if following is None:
            break
        front = following
    return front


def _next_traded(traded: dict[Contract, int], after: Contract | None) -> Contract | None:
    """Return the earliest contract after ``after`` that traded."""
    following = (each for each, volume in traded.items() if volume > 0 and (after is None or each > after))
    return min(following, default=None)


def _crossed(figures: dict[Contract, int], front: Contract) -> Contract:
    """Return the contract with the largest figure among ``front`` and later ones; ``front`` if several are largest."""
    most = figures.get(front, 0)
    ahead = [contract for contract, figure in figures.items() if figure > most and contract > front]
    return min(ahead, key=lambda contract: (-figures[contract], contract), default=front)
