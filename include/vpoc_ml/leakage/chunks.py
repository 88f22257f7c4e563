"""Chunk invariance: it does not matter how many bars at a time a builder gets."""

from __future__ import annotations

import polars as pl

from vpoc_ml.leakage.market import Build, Market
from vpoc_ml.leakage.violations import Violation, differences, merged

CHECK = "chunks"
REMEDY = "Carry every window's state from chunk to chunk, and fit nothing on a chunk."


def check_chunks(build: Build, market: Market, whole: pl.DataFrame, sizes: tuple[int, ...]) -> list[Violation]:
    """Return a finding for each feature that depends on the rows of a chunk."""
    violations = []
    for size in sizes:
        told = f"in chunks of {size} bars", REMEDY
        violations += differences(CHECK, whole, build(market, size), told)
    return merged(violations)
