"""Which contract is the front one, by volume crossover."""

from __future__ import annotations

from datetime import date

import polars as pl

from vpoc_ml.market.contracts import Contract, parse_contract

_SCHEMA = {"contract": pl.String, "first_session": pl.Date, "last_session": pl.Date}


def front_periods(daily: pl.DataFrame) -> pl.DataFrame:
    """Return the front period of each contract: contract, first_session, last_session (Date, both inclusive).

    ``daily`` has contract, session and volume (contracts traded in the session), one row a contract and session.
    A later contract becomes front in the session AFTER the one in which it first traded more than the front
    contract: that volume is known only when the session has ended, so the table never looks ahead. An expired
    contract hands over at once, because expiry is known beforehand. The front never moves back to an earlier
    contract; a contract that never became front has no row.

    The last session must be complete: part of a session can cross over and come back.

    Raises:
        ContractCodeError: a contract's code cannot be read.
    """
    codes = {code: parse_contract(code, where="daily volume") for code in daily["contract"].unique().to_list()}
    periods: list[tuple[Contract, date, date]] = []
    front: Contract | None = None
    for session, traded in _by_session(daily, codes):
        if front is None or session > front.expiry:
            front = _nearest(traded, front) or front
        if front is None:
            continue
        if periods and periods[-1][0] == front:
            periods[-1] = (front, periods[-1][1], session)
        else:
            periods.append((front, session, session))
        front = _crossed(traded, front)
    return pl.DataFrame([(c.code, first, last) for c, first, last in periods], schema=_SCHEMA, orient="row")


def _by_session(daily: pl.DataFrame, codes: dict[str, Contract]) -> list[tuple[date, dict[Contract, int]]]:
    traded: dict[date, dict[Contract, int]] = {}
    for code, session, volume in daily.select("contract", "session", "volume").iter_rows():
        traded.setdefault(session, {})[codes[code]] = volume or 0
    return sorted(traded.items())


def _nearest(traded: dict[Contract, int], after: Contract | None) -> Contract | None:
    """Return the earliest contract that traded and is later than ``after``."""
    later = [contract for contract, volume in traded.items() if volume > 0 and (after is None or contract > after)]
    return min(later, default=None)


def _crossed(traded: dict[Contract, int], front: Contract) -> Contract:
    """Return the contract that is front in the next session."""
    most = traded.get(front, 0)
    for contract in sorted(traded):
        if contract > front and traded[contract] > most:
            front, most = contract, traded[contract]
    return front
