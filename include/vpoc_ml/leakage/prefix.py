"""Prefix invariance: what a builder says of a bar is the same whether or not later bars exist."""

from __future__ import annotations

import numpy as np
import polars as pl

from vpoc_ml.leakage.market import Build, Market
from vpoc_ml.leakage.violations import Violation, differences, merged
from vpoc_ml.profile.tick_bars import session_starts

CHECK = "prefix"
REMEDY = "Compute it from bars up to its own only: nothing fitted, filled or grouped over later rows."


def places(market: Market, sampled: int, seed: int) -> list[int]:
    """Return the numbers of bars to cut after: the awkward places and ``sampled`` others, in order.

    Awkward are the first two bars, the bar before, at and after each start of a session (the roll among them), and
    the last bar but one.
    """
    starts = session_starts(market.bars["session"])[1:-1]
    edges = {1, 2, market.rows - 1, *(int(start) + step for start in starts for step in (0, 1, 2))}
    others = np.random.default_rng(seed).integers(1, market.rows, sampled)
    return sorted(cut for cut in edges | {int(cut) for cut in others} if 0 < cut < market.rows)


def check_prefix(build: Build, market: Market, whole: pl.DataFrame, cuts: list[int]) -> list[Violation]:
    """Return a finding for each feature whose rows change when the market ends after one of ``cuts`` bars.

    Args:
        build: the builder to judge.
        market: what it is given.
        whole: what it makes of all of it.
        cuts: numbers of bars, each at least 1.
    """
    violations = []
    for cut in cuts:
        told = f"when the market ends after {cut} bars", REMEDY
        violations += differences(CHECK, whole.head(cut), build(market.head(cut), None), told)
    return merged(violations)
