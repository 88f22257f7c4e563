"""Rolls: a planted price gap with its true ratio moves no feature, and two contracts never mix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.leakage.market import Build, Market, moved, rescaled
from vpoc_ml.leakage.violations import ALL, KEYS, Violation, differences, merged

CHECK = "rolls"
GAPS = (2.0, 4.0)
COMPARISONS = len(GAPS) + 2
_GAP = "Multiply every price of the past by the roll's ratio before a window reads it."
_MIXED = "Read one contract at a time: its own bars before it is front, its adjusted past from then on."


def check_rolls(build: Build, market: Market, whole: pl.DataFrame) -> list[Violation]:
    """Return a finding for each feature that a roll disturbs.

    Three promises: a predecessor quoted at two or four times the price, with the ratio that takes it back, changes
    nothing; without a predecessor the rows before the roll are the same; and after the roll the contract's own bars
    before it do not matter, because they are thin and another contract was traded.

    Raises:
        InvalidValueError: the market has no predecessor, or no bars on both sides of the roll.
    """
    if market.predecessor is None or not 0 < market.roll < market.rows:
        raise InvalidValueError(
            "market", "one without a roll", "one with bars on both sides of a roll and a predecessor"
        )
    violations = _foreign_rows(market, whole)
    for factor in GAPS:
        other = build(replace(market, predecessor=rescaled(market.predecessor, factor)), None)
        violations += differences(CHECK, whole, other, (f"when the past is quoted at {factor:g} times the price", _GAP))
    alone = build(replace(market, predecessor=None), None).head(market.roll)
    violations += differences(CHECK, whole.head(market.roll), alone, ("before the roll without predecessor", _MIXED))
    own = np.where(np.arange(market.rows) < market.roll, 120, 0)
    thin = build(replace(market, bars=moved(market.bars, own, market.instrument)), None).slice(market.roll)
    told = "after the roll when the contract's own earlier bars are others", _MIXED
    return merged([*violations, *differences(CHECK, whole.slice(market.roll), thin, told, first_row=market.roll)])


def _foreign_rows(market: Market, whole: pl.DataFrame) -> list[Violation]:
    """Report rows that are not the contract's bars, one by one and in order."""
    if whole.select(KEYS).equals(market.bars.select(KEYS)):
        return []
    found = f"{whole.height} rows of {', '.join(map(str, whole['contract'].unique().sort()))}"
    return [Violation(CHECK, ALL, None, None, f"the {market.rows} bars of the contract in order", found, _MIXED)]
