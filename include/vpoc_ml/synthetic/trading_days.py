"""The contracts of a synthetic market, their sessions, and their shares of the volume."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import reviewed_range, sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.synthetic.price_path import next_contract_share

ROOT = "ES"
LEAD = 22  # sessions over which volume moves to a contract before it is the front one
VIX_LEAD = 80  # sessions of VIX history before the first bar
_MONTHS = (3, 6, 9, 12)
_USUAL_FIRST = (2023, 3)
_USUAL_LAST = (2025, 12)  # if more contracts are needed than fit from the usual first one, they begin earlier


@dataclass(frozen=True)
class MarketPlan:
    """The plan of a market. ``chain[0]`` is never written: it trades before the first contract and during its roll.

    ``table`` has the sessions of the market (as ``exchange_calendar.sessions``). ``shares`` is each contract's share of
    a session's volume, contracts x sessions. ``begins`` is the first row of ``table`` in each contract's file.
    """

    chain: list[Contract]
    table: pl.DataFrame
    shares: np.ndarray
    begins: list[int]
    es: Instrument

    @property
    def days(self) -> list[date]:
        """The sessions."""
        return self.table["session"].to_list()

    @property
    def front(self) -> dict[date, int]:
        """Index in ``chain`` of the contract with the largest share, by session."""
        return {day: int(np.argmax(self.shares[:, row])) for row, day in enumerate(self.days)}


def most_contracts(lead: int = LEAD) -> int:
    """Return the number of contracts that fit into the sessions whose hours were reviewed."""
    return _ordinal(reviewed_range(instrument(ROOT).calendar)[1].year, _MONTHS[-1]) - _first_possible(lead) + 1


def plan_market(contracts: int, lead: int = LEAD) -> MarketPlan:
    """Return the plan of ``contracts`` contracts whose files begin ``lead`` sessions before they become front.

    The first contract is ESH23. If they do not fit up to ESZ25, they begin earlier; if that is not enough, they also
    end later.

    Raises:
        InvalidValueError: so many contracts do not fit into the reviewed calendar, or a lead outside 22..250.
    """
    if not LEAD <= lead <= 250:
        raise InvalidValueError("lead", lead, f"{LEAD} to 250 sessions")
    if not 1 <= contracts <= most_contracts(lead):
        raise InvalidValueError("contracts", contracts, f"1 to {most_contracts(lead)}")
    first = min(_ordinal(*_USUAL_FIRST), _ordinal(*_USUAL_LAST) - contracts + 1)
    first = max(first, _first_possible(lead))
    chain = [_contract(first + n) for n in range(-1, contracts)]
    es = instrument(ROOT)
    begin = chain[0].scheduled_roll
    table = sessions(es.calendar, begin - timedelta(days=lead * 2 + 16), chain[-1].expiry)
    front_from = table.select((pl.col("session") > begin).arg_max()).item()
    table = table.slice(front_from - lead)
    days = table["session"].to_list()
    mondays = [_row_of(days, contract.scheduled_roll) for contract in chain]
    begins = [max(mondays[max(index - 1, 0)] + 1 - lead, 0) for index in range(len(chain))]
    return MarketPlan(chain, table, _shares(chain, days), begins, es)


def _shares(chain: list[Contract], days: list[date]) -> np.ndarray:
    shares = np.zeros((len(chain), len(days)))
    shares[0] = 1.0
    for index in range(1, len(chain)):
        monday, expired = _row_of(days, chain[index - 1].scheduled_roll), chain[index - 1].expiry
        for row in range(max(monday + 1 - LEAD, 0), len(days)):
            share = next_contract_share(row - monday) if days[row] <= expired else 1.0
            shares[index, row] = shares[index - 1, row] * share
            shares[index - 1, row] *= 1.0 - share
    return shares


def _row_of(days: list[date], day: date) -> int:
    return next((row for row, each in enumerate(days) if each >= day), len(days))


def _ordinal(year: int, month: int) -> int:
    return year * 4 + _MONTHS.index(month)


def _contract(ordinal: int) -> Contract:
    return Contract(ROOT, ordinal // 4, _MONTHS[ordinal % 4])


def _first_possible(lead: int) -> int:
    """Return the first contract whose sessions and VIX history the calendar holds."""
    needed = reviewed_range(instrument(ROOT).calendar)[0] + timedelta(days=lead * 2 + 16 + VIX_LEAD * 2)
    ordinal = _ordinal(needed.year, _MONTHS[0])
    while _contract(ordinal - 1).scheduled_roll < needed:
        ordinal += 1
    return ordinal
