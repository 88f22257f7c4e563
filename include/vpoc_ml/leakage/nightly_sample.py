"""Nightly sample: stored features of the newest contract, compared with features of less and of other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.features.history import HISTORY_SESSIONS
from vpoc_ml.leakage.invariance import CHUNKS, CHUNKS_REMEDY, FUTURE_PERTURBATION, FUTURE_REMEDY, PREFIX
from vpoc_ml.leakage.market import Build, Market, perturb_after
from vpoc_ml.leakage.violations import differences, earliest, feature_columns
from vpoc_ml.profile.tick_bars import session_starts

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
    cuts = _sample_cuts(short, first, np.random.default_rng(seed))
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


def _sample_cuts(market: Market, first: int, draw: np.random.Generator) -> list[int]:
    """Return four numbers of bars: after the first checked bar, one bar into a session, anywhere, and all of them.

    All of them, so that the newest bar is checked: its features are scored this night.
    """
    starts = first + session_starts(market.bars["session"][first:])[:-1]
    opened = int(draw.choice(starts)) + 1
    anywhere = int(draw.integers(first + 1, max(market.rows, first + 2)))
    return [first + 1, opened, anywhere, market.rows]
