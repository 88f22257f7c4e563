"""Checks that the contracts of an instrument agree: similar price levels, and no session delivered twice.

Only daily figures are compared, so the cost does not depend on the length of a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.quality.checks import Check, Measurement

CHECKS = (
    Check("level", "close", "closes as near to those of the neighbouring contracts as the cost of carry explains"),
    Check("copies", "close", "no session with the bars of another contract"),
)

_GAP = 0.03  # a quarter: rates less dividends gave at most 1.3 % (March 2026: 0.75 %)
_QUARTER = 91
_TOGETHER = pl.duration(minutes=10)  # deferred months trade hours apart; their last prices are of other times
_DAY = 0.12  # the largest move between two closes since 2008 (2020-03-16), as much as the square root of the time
_MIN_BARS = 30
_FIGURES = ("session", "open", "high", "low", "close", "volume", "bars")
_REMEDY = "correct it and run again; if no delivered file belongs to {}, delete its bars from the lake"


def measurements(daily: pl.DataFrame | None, contracts: Sequence[str], *, level: bool) -> list[Measurement]:
    """Measure every check of ``CHECKS`` for each of ``contracts``.

    Args:
        daily: One row a contract and session (``schemas.DAILY_FIGURES``) of the run's contracts and those around
            them. None: nothing can be compared and nothing is found.
        contracts: Contracts to check.
        level: Whether neighbouring contracts cost about the same, as those of an equity index do. A commodity's
            curve may have any shape.
    """
    if daily is None or daily.is_empty():
        found = ((code, check.name) for code in contracts for check in CHECKS)
        return [Measurement(code, "close", name, 0, 1, unit="sessions") for code, name in found]
    known = daily.filter(pl.col("close").is_finite()).sort("contract", "session")
    twice = known.filter(pl.col("bars") >= _MIN_BARS, pl.struct(_FIGURES).is_duplicated())
    chain = sorted(map(parse_contract, known["contract"].unique()))
    return [m for code in contracts for m in (_level(known, chain, code, level), _copies(twice, known, code))]


def _copies(twice: pl.DataFrame, daily: pl.DataFrame, code: str) -> Measurement:
    """Measure the sessions whose bars another contract has too."""
    own = twice.filter(pl.col("contract") == code)
    others = twice.filter(pl.col("contract") != code).join(own, on=_FIGURES, how="semi").sort("session")
    days = others["session"].unique().sort()
    note = ""
    if days.len():
        codes = ", ".join(others["contract"].unique().sort())
        note = (
            f"same bars as {codes} from {days[0]} to {days[-1]}; one file has the wrong contract:"
            f" {_REMEDY.format(codes)}"
        )
    total = daily.filter(pl.col("contract") == code).height
    return Measurement(
        code, "close", "copies", days.len(), max(total, 1), tuple(days.head(3)), note=note, unit="sessions"
    )


def _level(daily: pl.DataFrame, chain: Sequence[Contract], code: str, applies: bool) -> Measurement:
    """Measure the sessions in which a contract's close is far from that of the contract before or after it."""
    own, contract = daily.filter(pl.col("contract") == code), parse_contract(code)
    before, after = [each for each in chain if each < contract][-1:], [each for each in chain if each > contract][:1]
    far: list[date] = []
    notes, compared = [], 0
    for other in [*before, *after] if applies and own.height else ():
        theirs = daily.filter(pl.col("contract") == other.code)
        quarters = max(abs((other.scheduled_roll - contract.scheduled_roll).days) / _QUARTER, 1.0)
        table = _pairs(own, theirs, _GAP * quarters)
        bad = table.filter((pl.col("close") / pl.col("close_right") - 1).abs() > pl.col("limit"))
        compared += table.height
        far += bad["session"].to_list()
        if bad.height:
            first = bad.row(0, named=True)
            notes.append(
                f"{first['close']:g} in session {first['session']}, {other.code} {first['close_right']:g} in session"
                f" {first['session_right']}, expected within {first['limit']:.0%}; {bad.height:,} such sessions up to"
                f" {bad['session'][-1]}"
            )
    note = f"{'; '.join(notes)}; one of the files is wrong: {_REMEDY.format('the neighbour')}" if notes else ""
    days = sorted(set(far))
    return Measurement(code, "close", "level", len(far), max(compared, 1), tuple(days[:3]), note=note, unit="sessions")


def _pairs(own: pl.DataFrame, theirs: pl.DataFrame, gap: float) -> pl.DataFrame:
    """Return session, close, session_right, close_right and the relative distance allowed between both closes.

    The rows are the sessions that both traded to the same minutes; without a shared session, the two closes nearest
    in time.
    """
    both = own.join(theirs.with_columns(session_right="session"), on="session")
    columns = ("session", "close", "session_right", "close_right", "limit")
    if both.height:
        together = (pl.col("last") - pl.col("last_right")).abs() <= _TOGETHER
        return both.filter(together).with_columns(limit=gap).select(columns)
    after = own["session"][0] > theirs["session"][-1]
    mine, nearest = (own.head(1), theirs.tail(1)) if after else (own.tail(1), theirs.head(1))
    away = (pl.col("session") - pl.col("session_right")).dt.total_days().abs()
    joined = mine.join(nearest.rename({name: f"{name}_right" for name in nearest.columns}), how="cross")
    return joined.with_columns(limit=gap + _DAY * away.sqrt()).select(columns)
