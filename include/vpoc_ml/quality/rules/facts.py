"""Inputs of gate ``bars`` beside the bars: facts about each contract and about its market."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

NEVER = (date.max, date.min)
"""The front period of a contract that never was the front one."""


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """A contract's file of bars and what is known of the contract.

    Args:
        path: Parquet file of the bars.
        calendar: Sessions around the bars, as ``market.exchange_calendar.sessions`` gives them.
        quarantined: Rows of the delivery that went to quarantine.
        front: First and last session as the front contract, whose coverage of the calendar is checked; ``NEVER`` if it
            never was. None: not known, all sessions are checked.
        due: Session that the bars must include. None: they may end anywhere.
    """

    path: Path
    calendar: pl.DataFrame
    quarantined: int = 0
    front: tuple[date, date] | None = None
    due: date | None = None


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """What is known of the market that the contracts belong to.

    Args:
        tick_size: Smallest price step in points.
        price_range: Lowest and highest price in points that the instrument can plausibly have. None: any.
        negative_prices: Whether a price at or below 0 is possible.
        equity_index: Whether the instrument is an equity index, whose neighbouring contracts cost about the same.
        has_vix: Whether the bars have the VIX.
        vix_implied: Whether the VIX measures the instrument's volatility.
        vix_closes: date, close, available_at (UTC) of the VIX file that the bars were joined with. None: not known.
        covariates: Columns of further indices, after the VIX.
    """

    tick_size: float
    price_range: tuple[float, float] | None = None
    negative_prices: bool = False
    equity_index: bool = False
    has_vix: bool = True
    vix_implied: bool = False
    vix_closes: pl.DataFrame | None = None
    covariates: tuple[str, ...] = ()
