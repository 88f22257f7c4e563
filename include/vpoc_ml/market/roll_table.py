"""Which contract is the front one, when the front changes, and what the change is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple

import polars as pl

from vpoc_ml.errors import ArtifactError, InvalidValueError
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instrument_files import MONTH_CODES, ROLL_RULES
from vpoc_ml.market.instruments import instrument

RollRule = Literal["volume", "open_interest", "calendar"]

MEASURE_DAYS = 7
"""Days before the switch in which both contracts must have traded for its gap to be measured."""
MEASURE_MINUTES = 5
"""Common minutes a session must have: the median of fewer is one quote."""

ENDS_BEFORE = timedelta(days=14)
"""A file that ends at most this long before the expiry has ended for the roll; an earlier hole is a hole."""

_PERIODS = {"contract": pl.String, "first_session": pl.Date, "last_session": pl.Date}
_TABLE = {**_PERIODS, "predecessor": pl.String, "gap": pl.Float64, "ratio": pl.Float64}


class _Day(NamedTuple):
    session: date
    volume: dict[Contract, int]
    interest: dict[Contract, int]


class RollStep(NamedTuple):
    """What a switch of the front is worth: ``new = old + gap`` and ``new = old * ratio``."""

    gap: float | None
    ratio: float | None


def front_periods(daily: pl.DataFrame, rule: str = "volume") -> pl.DataFrame:
    """Return the front period of each contract: contract, first_session, last_session (Date, both inclusive).

    Rules, none of which looks ahead:

    * ``volume``: a later contract is front in the session AFTER the one in which it first traded more than the front
      contract: that volume is known when the session has ended.
    * ``open_interest``: in the second session after the one in which it first held more open interest: the exchange
      publishes the figure the next morning, when the next session has long begun.
    * ``calendar``: from the front contract's scheduled roll on, if it trades; the roll goes to the nearest contract
      of the instrument's cycle.

    An expired contract hands over at once, because expiry is known beforehand. So does a front contract whose file has
    ended: one without a bar in a session in which a later contract has traded, by the rule ``volume`` always (it would
    hand over a session later in any case), by the others in the 14 days before its expiry. That a file holds nothing
    of a session is known from the session's first bars; a file that ends today still has today's bars. The front never
    moves back to an earlier contract; a contract that never became front has no row. The last session must be
    complete: part of a session can cross over and come back.

    Args:
        daily: contract, session, volume (contracts traded), one row a contract and session; for ``open_interest``
            that column too (contracts held at the end of the session), null where unknown.
        rule: how the front is chosen.

    Raises:
        ContractCodeError: a contract's code cannot be read.
        InvalidValueError: no such rule.
        ArtifactError: the rule needs open interest and there is none.
    """
    _refuse(daily, rule)
    periods: list[tuple[Contract, date, date]] = []
    front: Contract | None = None
    published: dict[Contract, int] = {}
    expiry = cache(lambda contract: contract.expiry)  # asked every session
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
    return pl.DataFrame([(c.code, first, last) for c, first, last in periods], schema=_PERIODS, orient="row")


def roll_table(front: pl.DataFrame, measure: Callable[[str, str, date], RollStep]) -> pl.DataFrame:
    """Return ``front`` with each contract's predecessor and the gap and ratio of the switch.

    Args:
        front: ``front_periods`` of one instrument.
        measure: gives the step from one contract to the next at the first session of the next, as
            ``measure_roll`` does.

    Returns:
        contract, first_session, last_session, predecessor, gap (points, new minus old) and ratio (new over old);
        all three null for the first contract, gap and ratio also where there was nothing to measure.
    """
    rows = []
    before: str | None = None
    for contract, first, last in front.select(*_PERIODS).iter_rows():
        step = measure(before, contract, first) if before is not None else RollStep(None, None)
        rows.append((contract, first, last, before, *step))
        before = contract
    return pl.DataFrame(rows, schema=_TABLE, orient="row")


def roll_problems(daily: pl.DataFrame, table: pl.DataFrame, calendar: Sequence[date]) -> list[str]:
    """Return in words what the front periods lack: sessions without a bar of the front contract, unmeasured rolls.

    Args:
        daily: as ``front_periods`` takes it.
        table: the roll table made of it.
        calendar: sessions of the instrument, in order, over the same time.
    """
    delivered = set(daily.select("contract", "session").iter_rows())
    rows = table.rows(named=True)
    lost = []
    for row, following in pairwise([*rows, None]):
        assert row is not None
        code, first, last = row["contract"], row["first_session"], row["last_session"]
        end = following["first_session"] if following else last + timedelta(days=1)
        days = [day for day in calendar if first <= day < end and (code, day) not in delivered]
        if row["gap"] is not None and row["ratio"] is None:
            lost.append(
                f"{code}: {row['predecessor']} or {code} traded at or below 0 before {first}, where both did last:"
                f" a gap of {row['gap']:g} points and no ratio, so its features begin without the history of"
                f" {row['predecessor']}"
            )
        elif row["predecessor"] and row["ratio"] is None:
            lost.append(
                f"{code}: no session of the week before {first} in which {row['predecessor']} and {code} both traded:"
                f" no gap and ratio, so its features begin without the history of {row['predecessor']}"
            )
        if days:
            what = f"{len(days)} sessions, {days[0]} to {days[-1]}," if len(days) > 1 else f"session {days[0]}"
            lost.append(f"{code}: {what} without a bar of the front contract; deliver a longer file of {code}")
    return lost


def measure_roll(old: pl.DataFrame, new: pl.DataFrame, switch: date) -> RollStep:
    """Measure the step between two contracts in the last session before ``switch`` in which both traded.

    Only minutes in which both traded count, so that neither price is stale, and only sessions before the switch, so
    that the factor is known when it is first used. The median, because within a day the gap moves by a tick or two
    around one value and a single late print moves a mean by more than that.

    Args:
        old: bars of the front contract before the switch: ts, session, close (points), volume.
        new: bars of the front contract from the switch on.
        switch: first session of ``new`` as the front contract.

    Returns:
        Gap and ratio; nulls where no session of the week before has five common minutes, the ratio also where a
        price is not positive.
    """
    quotes = old.filter(pl.col("volume") > 0).select("ts", "session", "close")
    both = quotes.join(new.filter(pl.col("volume") > 0).select("ts", pl.col("close").alias("new")), on="ts")
    earliest = switch - timedelta(days=MEASURE_DAYS)
    both = both.filter(pl.col("session").is_between(earliest, switch, closed="left"))
    enough = both.group_by("session").len().filter(pl.col("len") >= MEASURE_MINUTES)["session"].max()
    if enough is None:
        return RollStep(None, None)
    both = both.filter(pl.col("session") == enough)
    gap = (both["new"] - both["close"]).median()
    positive = (both["new"] > 0).all() and (both["close"] > 0).all()
    ratio = (both["new"] / both["close"]).median() if positive else None
    return RollStep(_number(gap), _number(ratio))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _refuse(daily: pl.DataFrame, rule: str) -> None:
    if rule not in ROLL_RULES:
        raise InvalidValueError("data.roll_rule", rule, f"one of {', '.join(ROLL_RULES)}")
    known = "open_interest" in daily.columns and daily["open_interest"].is_not_null().any()
    if rule == "open_interest" and not daily.is_empty() and not known:
        raise ArtifactError("daily figures", "open interest, which data.roll_rule=open_interest reads", "none")


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
    """Return the front contract of a session as it is known before the session begins, or at its first bars."""
    if front is None or day.session > expiry(front) or _has_ended(day, front, rule, expiry(front)):
        front = _nearest(day.volume, front) or front
    while rule == "calendar" and front is not None and day.session >= front.scheduled_roll:
        later = _nearest({c: volume for c, volume in day.volume.items() if _in_cycle(c)}, front)
        if later is None:
            break
        front = later
    return front


def _has_ended(day: _Day, front: Contract, rule: str, expiry: date) -> bool:
    """Return whether the front contract's file has ended for the roll: it holds nothing of the session."""
    return front not in day.volume and (rule == "volume" or expiry - day.session <= ENDS_BEFORE)


def _in_cycle(contract: Contract) -> bool:
    return MONTH_CODES[contract.month - 1] in instrument(contract.root).cycle


def _nearest(traded: dict[Contract, int], after: Contract | None) -> Contract | None:
    """Return the earliest contract that traded and is later than ``after``."""
    later = [contract for contract, volume in traded.items() if volume > 0 and (after is None or contract > after)]
    return min(later, default=None)


def _crossed(figures: dict[Contract, int], front: Contract) -> Contract:
    """Return the contract that leads by these figures, ``front`` itself or a later one."""
    most = figures.get(front, 0)
    ahead = [contract for contract, figure in figures.items() if figure > most and contract > front]
    return min(ahead, key=lambda contract: (-figures[contract], contract), default=front)
