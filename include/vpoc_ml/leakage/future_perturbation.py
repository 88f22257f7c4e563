"""Perturbation: later prices, volumes and VIX closes that were not yet published change no earlier row."""

from __future__ import annotations

import polars as pl

from vpoc_ml.leakage.market import Build, Market, disturbed_after
from vpoc_ml.leakage.violations import Violation, differences, merged

CHECK = "later"
REMEDY = "Join by the time a value was known, strictly earlier, and read completed sessions only."


def check_future_perturbation(
    build: Build, market: Market, whole: pl.DataFrame, cuts: list[int], seed: int
) -> list[Violation]:
    """Return a finding for each feature whose first ``cut`` rows change when what comes after them is another.

    Unlike a prefix, the disturbed market has all its rows: what counts rows, days or chunks is the same in both.
    """
    violations = []
    for cut in cuts:
        told = f"when all after bar {cut - 1} is another", REMEDY
        found = build(disturbed_after(market, cut - 1, seed), None)
        violations += differences(CHECK, whole.head(cut), found.head(cut), told)
    return merged(violations)
