"""The nightly sample: the features a run has stored, computed again from less, on its newest contract's real bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.features.history import HISTORY_SESSIONS
from vpoc_ml.leakage import chunks, future_perturbation, prefix
from vpoc_ml.leakage.market import Build, Market, disturbed_after
from vpoc_ml.leakage.violations import Violation, differences, feature_columns, merged
from vpoc_ml.profile.tick_bars import session_starts

JUDGED_SESSIONS = 15
STRETCH = 40
"""Bars of the stretch that is computed in small chunks."""
_STALE = "The stored features are not those of the stored bars, or know later ones: build them again, then look why."

Stream = Callable[[Market, int, int], pl.DataFrame]
"""Features of a market from a row on, in chunks: (market, rows of a chunk, first row)."""


class SampleResult(NamedTuple):
    """How often a feature was compared, by check, and what was found."""

    comparisons: dict[str, int]
    violations: list[Violation]


class _Recent(NamedTuple):
    market: Market
    stored: pl.DataFrame
    first: int


def check_sample(
    build: Build, stream: Stream, market: Market, stored: pl.DataFrame, seed: int, history: int = HISTORY_SESSIONS
) -> SampleResult:
    """Compare stored features with those of shorter, disturbed and chunked bars at sampled places.

    Only the last 15 sessions are judged, with ``history`` before them as their past, so that the cost has a bound.

    Args:
        build: the builder that made ``stored``.
        stream: the same builder, chunk by chunk from a row on.
        market: all bars of the contract, the VIX closes, and the predecessor that was used.
        stored: the features as the run has stored them, one row a bar.
        seed: of what is sampled.
        history: sessions that the features read of the past.
    """
    short, known, first = _recent(market, stored, history)
    draw = np.random.default_rng(seed)
    cuts = _cuts(short, first, draw)
    violations = []
    for cut in cuts:
        found = build(short.head(cut), None).slice(first)
        told = f"when the market ends after bar {cut - 1}", _STALE
        violations += differences(prefix.CHECK, known[first:cut], found, told, first_row=first)
    for cut in cuts[1:3]:
        other = build(disturbed_after(short, cut - 1, seed), None)[first:cut]
        told = f"when all after bar {cut - 1} is another", future_perturbation.REMEDY
        violations += differences(future_perturbation.CHECK, known[first:cut], other, told, first_row=first)
    stretches = [(cuts[1], 7, STRETCH), (cuts[2], 1, STRETCH // 5)]
    for cut, rows, length in stretches:
        begin = max(first, cut - length)
        told = f"in chunks of {rows} bars", chunks.REMEDY
        streamed = stream(short.head(cut), rows, begin)
        violations += differences(chunks.CHECK, known[begin:cut], streamed, told, first_row=begin)
    times = {prefix.CHECK: len(cuts), future_perturbation.CHECK: len(cuts[1:3]), chunks.CHECK: len(stretches)}
    features = len(feature_columns(known))
    return SampleResult({check: count * features for check, count in times.items()}, merged(violations))


def _recent(market: Market, stored: pl.DataFrame, history: int) -> _Recent:
    """Return the sessions judged and their past, and the first row judged."""
    days = market.bars["session"].unique().sort()
    if days.len() <= history + JUDGED_SESSIONS:
        return _Recent(market, stored, 0)
    begin, judged = days[-history - JUDGED_SESSIONS], days[-JUDGED_SESSIONS]
    kept = market.bars["session"] >= begin
    past = market.predecessor
    rolled_before = past is not None and past.first_session < begin
    short = replace(market, bars=market.bars.filter(kept), predecessor=None if rolled_before else past)
    return _Recent(short, stored.filter(kept), int(short.bars["session"].search_sorted(judged)))


def _cuts(market: Market, first: int, draw: np.random.Generator) -> list[int]:
    """Return four numbers of bars: after the first bar judged, one bar into a session, anywhere, and all of them.

    All of them, so that the newest bar, whose features are scored tonight, is judged too.
    """
    starts = first + session_starts(market.bars["session"][first:])[:-1]
    opened = int(draw.choice(starts)) + 1
    anywhere = int(draw.integers(first + 1, max(market.rows, first + 2)))
    return [first + 1, opened, anywhere, market.rows]
