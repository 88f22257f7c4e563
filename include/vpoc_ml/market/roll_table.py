"""The front contract of each session, the rolls between contracts, and the gap and ratio of each roll."""

from __future__ import annotations

import math
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

COMMON, FILE, ADJUSTED, ESTIMATED = "common", "file", "adjusted", "estimated"
"""Sources of a step: common minutes, ``data.rolls``, ``data.adjusted``, the two closes nearest in time."""
STATED = (FILE, ADJUSTED)
"""Sources that follow from the settings alone."""
MOVE_SESSIONS = 60
"""Sessions of the old contract whose moves give the uncertainty of an estimated step: about one quarter."""
LEAST_MOVES = 5
"""Smallest number of moves that give a standard deviation."""
SAME_BREAK = timedelta(hours=2)
"""Breaks whose lengths differ by no more are of like length; so are those that differ by a quarter of the length."""
LONGEST_MOVE = timedelta(days=5)
"""A longer time from one session's close to the next one's is a hole in the file."""
_MINUTE = timedelta(minutes=1)

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
    "source": pl.String(),
    "uncertainty": pl.Float64(),
}


class _Day(NamedTuple):
    """Volume and open interest of the contracts in one session."""

    session: date
    volume: dict[Contract, int]
    interest: dict[Contract, int]


class RollStep(NamedTuple):
    """Price difference of a roll: ``new = old + gap`` (points) and ``new = old * ratio``.

    ``source`` is one of the four sources; ``uncertainty`` is the standard deviation of an estimated gap in points.
    """

    gap: float | None
    ratio: float | None
    source: str | None = None
    uncertainty: float | None = None


NO_STEP = RollStep(None, None)


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
        contract, first_session, last_session, predecessor, gap (points, new minus old), ratio (new over old), source
        and uncertainty (points, one standard deviation; null unless estimated). All five are null for the first
        contract, all but predecessor also where no step is known.
    """
    rows = []
    before: str | None = None
    for contract, first, last in front.select(*FRONT_PERIODS).iter_rows():
        step = measure(before, contract, first) if before is not None else NO_STEP
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
                f"{code}: no session of the week before {first} in which {row['predecessor']} and {code} both traded,"
                f" and no pair of closes near enough for an estimate: no gap and ratio, so its features begin without"
                f" the history of {row['predecessor']}"
            )
        if days:
            lacking = f"{len(days)} sessions, {days[0]} to {days[-1]}," if len(days) > 1 else f"session {days[0]}"
            problems.append(f"{code}: {lacking} without a bar of the front contract; deliver a longer file of {code}")
    return problems


def describe_steps(table: pl.DataFrame) -> dict[str, str]:
    """Return for each contract whose step was stated or estimated a sentence with source, gap and uncertainty."""
    origins = {
        FILE: "as data.rolls states",
        ADJUSTED: "because data.adjusted says that the files are pieces of one adjusted series",
        ESTIMATED: "estimated from the two closes nearest in time, uncertainty {:.2f} points",
    }
    return {
        row["contract"]: f"{row['contract']}: gap of {row['gap']:g} points to {row['predecessor']},"
        f" {origins[row['source']].format(row['uncertainty'])}"
        for row in table.iter_rows(named=True)
        if row["source"] in origins
    }


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
        return NO_STEP
    both = both.filter(pl.col("session") == enough)
    old_close, new_close = pl.col("close"), pl.col("new")
    measured = both.select(gap=(new_close - old_close).median(), ratio=(new_close / old_close).median())
    positive = (both["new"] > 0).all() and (both["close"] > 0).all()
    return RollStep(measured["gap"][0], measured["ratio"][0] if positive else None, COMMON)


def estimate_roll(old: pl.DataFrame, new: pl.DataFrame, switch: date) -> RollStep:
    """Estimate the step between two contracts without common minutes from the two closes nearest in time.

    Candidates are the closes of both contracts in the week before ``switch``, each known at the end of its bar, and
    the open of the new contract's first bar from ``switch`` on. That open is known at the end of the same bar, and no
    earlier bar of the new contract reads the step, so nothing is used before it is known.

    What the market moved between the two closes is part of the estimate, and the cost of carry of that time is not
    removed. ``_move_between`` gives the uncertainty. There is no estimate where that exceeds the old contract's usual
    move from one close to the next: a past that is wrong by more than a usual day is no better than none. That is so
    where a whole session lies between the files.

    Args:
        old: bars of the front contract before the switch: ts, session, open, close (points), volume, sorted by ts.
        new: bars of the front contract from the switch on.
        switch: first session of ``new`` as the front contract.

    Returns:
        Gap, ratio, source and uncertainty; all null without an estimate, the ratio also if a price is not positive.
    """
    traded, end = pl.col("volume") > 0, pl.col("ts") + _MINUTE
    week = pl.col("session").is_between(switch - timedelta(days=MEASURE_DAYS), switch, closed="left")
    closes = old.filter(traded & week).select(end.alias("at"), end.alias("old_at"), pl.col("close").alias("old"))
    first = new.filter(pl.col("session") >= switch).head(1).filter(traded)
    quotes = pl.concat(
        [
            new.filter(traded & week).select(end.alias("at"), pl.col("close").alias("new")),
            first.select(pl.col("ts").alias("at"), pl.col("open").alias("new")),
        ]
    )
    pairs = quotes.join_asof(closes, on="at", strategy="nearest").drop_nulls("old")
    pairs = pairs.with_columns(apart=(pl.col("at") - pl.col("old_at")).abs())
    if pairs.is_empty():
        return NO_STEP
    nearest = pairs.sort("apart", "at", descending=[False, True]).row(0, named=True)
    uncertainty = _move_between(old.filter(traded & (pl.col("session") < switch)), nearest["apart"])
    if uncertainty is None:
        return NO_STEP
    gap, positive = nearest["new"] - nearest["old"], nearest["old"] > 0 and nearest["new"] > 0
    return RollStep(gap, nearest["new"] / nearest["old"] if positive else None, ESTIMATED, uncertainty)


def _move_between(old: pl.DataFrame, apart: timedelta) -> float | None:
    """Return the standard deviation of the market's move between two closes, in points; None if it is too large.

    It is that of the contract's last 60 moves, with a mean of zero; moves over a hole in the file do not count:

    * with at least five breaks of like length, from a session's last close to the next session's first open: their
      root mean square. A closed market moves less in an hour than an open one (French and Roll 1986, Journal of
      Financial Economics 17, 5-26), so breaks are compared with breaks.
    * otherwise the root mean square of the moves from close to close, scaled with the square root of the time over
      the median of theirs. For a closed market this is too large rather than too small.

    Args:
        old: traded bars of the contract before the roll: ts, session, open, close (points), sorted by ts.
        apart: time between the two closes.

    Returns:
        The standard deviation; None if it exceeds that of the moves from close to close, or there are too few moves.
    """
    end = pl.col("ts").last() + _MINUTE
    days = old.group_by("session", maintain_order=True).agg(
        pl.col("ts").first(), end.alias("end"), pl.col("open").first(), pl.col("close").last()
    )
    before = days.select("end", "close").shift(1)
    moves = days.select(
        length=pl.col("ts") - before["end"],
        over_break=pl.col("open") - before["close"],
        day=pl.col("end") - before["end"],
        over_day=pl.col("close") - before["close"],
    )
    moves = moves.filter(pl.col("day") <= LONGEST_MOVE).tail(MOVE_SESSIONS)
    if moves.height < LEAST_MOVES:
        return None
    usual_day, day = _root_mean_square(moves["over_day"]), moves["day"].median()
    assert isinstance(day, timedelta)
    alike = moves.filter((pl.col("length") - apart).abs() <= max(SAME_BREAK, apart / 4))["over_break"]
    found = _root_mean_square(alike) if alike.len() >= LEAST_MOVES else usual_day * math.sqrt(apart / day)
    return found if found <= usual_day else None


def stated_step(gap: float, ratio: float | None, old: pl.DataFrame, switch: date) -> RollStep:
    """Return the step that ``data.rolls`` states.

    Args:
        gap: new minus old, points.
        ratio: new over old; None: it follows from the gap at the old contract's last close before ``switch``.
        old: bars of the front contract before the switch: session, close (points), volume, sorted by ts.
        switch: first session of the new front contract.
    """
    closes = old.filter((pl.col("volume") > 0) & (pl.col("session") < switch))["close"]
    if ratio is None and not closes.is_empty() and closes[-1] > 0 and closes[-1] + gap > 0:
        ratio = (closes[-1] + gap) / closes[-1]
    return RollStep(gap, ratio, FILE)


def _root_mean_square(moves: pl.Series) -> float:
    return math.sqrt((moves**2).mean())  # type: ignore[arg-type]


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
