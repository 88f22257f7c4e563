"""Bit-identity of features under changes that must not matter: the end of the market, chunks, later data, rolls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.leakage.market import Build, Market, perturb_after, rescale, shift_prices
from vpoc_ml.leakage.violations import ALL, KEYS, differences, earliest
from vpoc_ml.profile.tick_bars import session_starts

PREFIX, CHUNKS, FUTURE_PERTURBATION, ROLLS = "prefix", "chunks", "future_perturbation", "rolls"
PREFIX_REMEDY = "Compute it from bars up to its own only: fit, fill and group over no later row."
CHUNKS_REMEDY = "Carry the state of every window from chunk to chunk, and fit nothing on a chunk."
FUTURE_REMEDY = "Join by the time a value was known, strictly earlier, and read completed sessions only."
_GAP_REMEDY = "Multiply every price of the past by the roll's ratio before a window reads it."
_CONTRACT_REMEDY = "Read one contract at a time: its own bars before it is front, its adjusted past from then on."
GAPS = (2.0, 4.0)
ROLL_COMPARISONS = len(GAPS) + 2


def cut_rows(market: Market, sampled: int, seed: int) -> list[int]:
    """Return the numbers of bars to cut after: critical ones and ``sampled`` random ones, in order.

    Critical are the first two bars, the bars before, at and after each start of a session (the roll among them), and
    the last bar but one.
    """
    starts = session_starts(market.bars["session"])[1:-1]
    critical = {1, 2, market.rows - 1, *(int(start) + step for start in starts for step in (0, 1, 2))}
    others = np.random.default_rng(seed).integers(1, market.rows, sampled)
    return sorted(cut for cut in critical | {int(cut) for cut in others} if 0 < cut < market.rows)


def check_prefix(build: Build, market: Market, features: pl.DataFrame, cuts: Sequence[int]) -> list[Violation]:
    """Return a violation for each feature whose rows change when the market ends earlier.

    Args:
        build: the builder to check.
        market: its input.
        features: what it computes from all of it.
        cuts: numbers of bars after which the market ends, each at least 1.
    """
    violations = []
    for cut in cuts:
        how = f"when the market ends after {cut} bars"
        violations += differences(PREFIX, features.head(cut), build(market.head(cut), None), how, PREFIX_REMEDY)
    return earliest(violations)


def check_chunks(build: Build, market: Market, features: pl.DataFrame, sizes: Sequence[int]) -> list[Violation]:
    """Return a violation for each feature that depends on the number of bars of a chunk."""
    violations = []
    for size in sizes:
        violations += differences(CHUNKS, features, build(market, size), f"in chunks of {size} bars", CHUNKS_REMEDY)
    return earliest(violations)


def check_future_perturbation(
    build: Build, market: Market, features: pl.DataFrame, cuts: Sequence[int], seed: int
) -> list[Violation]:
    """Return a violation for each feature whose first ``cut`` rows change when the data after them are replaced.

    Replaced are prices, volumes and index values that were not yet published. Unlike a shorter market, the perturbed
    one has the same rows, sessions and chunks.
    """
    violations = []
    for cut in cuts:
        how = f"when all data after bar {cut - 1} are replaced"
        found = build(perturb_after(market, cut - 1, seed), None)
        violations += differences(FUTURE_PERTURBATION, features.head(cut), found.head(cut), how, FUTURE_REMEDY)
    return earliest(violations)


def check_rolls(build: Build, market: Market, features: pl.DataFrame) -> list[Violation]:
    """Return a violation for each feature that a roll changes.

    Three rules are checked. A predecessor quoted at two or four times the price, with the ratio that compensates it,
    changes nothing. Without a predecessor the rows before the roll are the same. After the roll the contract's own
    bars before it do not matter, because they are thin and another contract was front.

    Raises:
        InvalidValueError: the market has no predecessor, or no bars on both sides of the roll.
    """
    if market.predecessor is None or not 0 < market.roll < market.rows:
        raise InvalidValueError(
            "market", "one without a roll", "one with bars on both sides of a roll and a predecessor"
        )
    violations = []
    if not features.select(KEYS).equals(market.bars.select(KEYS)):
        found = f"{features.height} rows of {', '.join(map(str, features['contract'].unique().sort()))}"
        expected = f"the {market.rows} bars of the contract in order"
        violations.append(Violation(ROLLS, ALL, None, None, expected, found, _CONTRACT_REMEDY))
    for factor in GAPS:
        other = build(replace(market, predecessor=rescale(market.predecessor, factor)), None)
        how = f"when the past is quoted at {factor:g} times the price"
        violations += differences(ROLLS, features, other, how, _GAP_REMEDY)
    before, after = features.head(market.roll), features.slice(market.roll)
    alone = build(replace(market, predecessor=None), None).head(market.roll)
    violations += differences(ROLLS, before, alone, "before the roll without predecessor", _CONTRACT_REMEDY)
    own = np.where(np.arange(market.rows) < market.roll, 120, 0)
    moved = build(replace(market, bars=shift_prices(market.bars, own, market.instrument)), None).slice(market.roll)
    how = "after the roll when the contract's own earlier bars are replaced"
    return earliest([*violations, *differences(ROLLS, after, moved, how, _CONTRACT_REMEDY, first_row=market.roll)])
