"""Chunk invariance: it does not matter how many bars at a time a builder gets."""

from __future__ import annotations

import polars as pl

from vpoc_ml.leakage.market import Build, Market
from vpoc_ml.leakage.results import Finding, differences, merged

CHECK = "chunks"
REMEDY = "Carry every window's state from chunk to chunk, and fit nothing on a chunk."


def check_chunks(build: Build, market: Market, whole: pl.DataFrame, sizes: tuple[int, ...]) -> list[Finding]:
    """Return a finding for each feature that depends on the rows of a chunk."""
    findings = []
    for size in sizes:
        told = f"in chunks of {size} bars", REMEDY
        findings += differences(CHECK, whole, build(market, size), told)
    return merged(findings)
