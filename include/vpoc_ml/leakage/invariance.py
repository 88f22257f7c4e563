"""Bit-identity of features under changes that must not matter: the end of the market, chunks, later data, rolls.

``check_sample`` repeats some of these checks on the run's own bars: it compares the stored features of the newest
contract with features of fewer bars and of other later data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.history import HISTORY_SESSIONS
from vpoc_ml.leakage.comparison import (
    ALL,
    KEYS,
    Build,
    Market,
    differences,
    earliest,
    feature_columns,
    perturb_after,
    rescale,
    shift_prices,
)
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


CHECKED_SESSIONS = 15
STRETCH = 40
"""Bars of the stretch that is computed in small chunks."""
_STALE = "The stored features are not those of the stored bars, or depend on later ones: rebuild them, find the cause."

Stream = Callable[[Market, int, int], pl.DataFrame]
"""Features of a market from a row on, in chunks: (market, rows of a chunk, first row)."""


class SampleResult(NamedTuple):
    """How often a feature was compared, by check, and the violations."""

    comparisons: dict[str, int]
    violations: list[Violation]


def check_sample(
    build: Build, stream: Stream, market: Market, stored: pl.DataFrame, seed: int, history: int = HISTORY_SESSIONS
) -> SampleResult:
    """Compare stored features with those of shorter, perturbed and chunked bars at sampled rows.

    Only the last 15 sessions are checked, with ``history`` sessions before them as their past, so the cost is bounded.

    Args:
        build: the builder that computed ``stored``.
        stream: the same builder, chunk by chunk from a row on.
        market: all bars of the contract, the VIX closes, and the predecessor that was used.
        stored: the features as the run stored them, one row per bar.
        seed: of the sampled rows.
        history: sessions that the features read of the past.
    """
    short, known, first = _last_sessions(market, stored, history)
    draw = np.random.default_rng(seed)
    opened = int(draw.choice(first + session_starts(short.bars["session"][first:])[:-1])) + 1
    anywhere = int(draw.integers(first + 1, max(short.rows, first + 2)))
    # after the first checked bar, one bar into a session, anywhere, and all bars: the newest is scored this night
    cuts = [first + 1, opened, anywhere, short.rows]
    violations = []
    for cut in cuts:
        found = build(short.head(cut), None).slice(first)
        how = f"when the market ends after bar {cut - 1}"
        violations += differences(PREFIX, known[first:cut], found, how, _STALE, first_row=first)
    for cut in cuts[1:3]:
        found = build(perturb_after(short, cut - 1, seed), None)[first:cut]
        how = f"when all data after bar {cut - 1} are replaced"
        violations += differences(FUTURE_PERTURBATION, known[first:cut], found, how, FUTURE_REMEDY, first_row=first)
    stretches = [(cuts[1], 7, STRETCH), (cuts[2], 1, STRETCH // 5)]
    for cut, rows, length in stretches:
        begin = max(first, cut - length)
        found, how = stream(short.head(cut), rows, begin), f"in chunks of {rows} bars"
        violations += differences(CHUNKS, known[begin:cut], found, how, CHUNKS_REMEDY, first_row=begin)
    times = {PREFIX: len(cuts), FUTURE_PERTURBATION: len(cuts[1:3]), CHUNKS: len(stretches)}
    features = len(feature_columns(known))
    return SampleResult({check: count * features for check, count in times.items()}, earliest(violations))


def _last_sessions(market: Market, stored: pl.DataFrame, history: int) -> tuple[Market, pl.DataFrame, int]:
    """Return the checked sessions with their past, their stored features, and the first checked row."""
    days = market.bars["session"].unique().sort()
    if days.len() <= history + CHECKED_SESSIONS:
        return market, stored, 0
    begin, checked = days[-history - CHECKED_SESSIONS], days[-CHECKED_SESSIONS]
    kept = market.bars["session"] >= begin
    past = market.predecessor
    rolled_before = past is not None and past.first_session < begin
    short = replace(market, bars=market.bars.filter(kept), predecessor=None if rolled_before else past)
    return short, stored.filter(kept), int(short.bars["session"].search_sorted(checked))
