"""External series: each value carries the time at which it was known, and a bar reads strictly earlier ones only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from vpoc_ml.leakage.lookback import Declared, declared_lookback
from vpoc_ml.leakage.market import Build, Market, with_vix
from vpoc_ml.leakage.violations import Violation, changed, feature_columns, matrix

CHECK = "external"
REMEDY = "Give every close the time it was published, and join backward, strictly earlier."


def check_as_of(build: Build, market: Market, whole: pl.DataFrame, registry: Mapping[str, Declared]) -> list[Violation]:
    """Return a finding for each feature that reads a VIX close too early, longer than declared, or undeclared.

    One close in the middle is replaced. Features of family "vix" must answer in the first bar that starts after its
    publication, not in the one that starts with it, and forget it after as many closes as they declare; others
    must not answer. Features that the registry does not name are left out.
    """
    vix = market.vix
    if vix is None or (undated := _undated(vix)):
        return [] if vix is None else undated
    at = _published_with_a_bar(vix, market.bars["ts"])
    known = vix["available_at"]
    close = pl.when(pl.int_range(pl.len()) == at).then(pl.col("close") * 1.5).otherwise("close")
    found = build(with_vix(market, vix.with_columns(close=close)), None)
    names = [name for name in feature_columns(whole) if name in registry]
    wrong = changed(matrix(whole, names), matrix(found, names))
    stamps = market.bars["ts"]
    first_known = int(stamps.search_sorted(known[at], side="right"))
    # closes published since, at each bar: 1 while the replaced one is the newest
    newer = known.search_sorted(stamps, side="left").to_numpy().astype(np.int64) - at
    violations = []
    for column, name in enumerate(names):
        rows = np.flatnonzero(wrong[:, column])
        told = _judged(name, registry[name], rows, newer, first_known)
        if told is not None:
            row, expected, seen = told
            violations.append(Violation(CHECK, name, stamps[row], row, expected, seen, REMEDY))
    return violations


def _judged(
    name: str, feature: Declared, rows: np.ndarray, newer: np.ndarray, first_known: int
) -> tuple[int, str, str] | None:
    """Return row, what was expected there and what was found; None where all is as declared."""
    if rows.size == 0:
        silent = feature.family == "vix"
        return (first_known, "an answer to a VIX close", "none at all") if silent else None
    first, last = int(rows[0]), int(rows[-1])
    if first < first_known:
        return (
            first,
            "no answer before a bar that starts after the publication",
            f"one {first_known - first} bars early",
        )
    if feature.family != "vix":
        return first, "no answer to the VIX outside the family vix", "one"
    most, forgotten = declared_lookback(feature).most, int(newer[last])
    if forgotten > most:
        return last, f"a memory of {most} closes", f"one of {forgotten}"
    return None


def _undated(vix: pl.DataFrame) -> list[Violation]:
    if "available_at" in vix.columns and not vix["available_at"].has_nulls():
        return []
    expected = "available_at, the time of publication, beside every close"
    return [Violation(CHECK, "vix", None, None, expected, f"columns {', '.join(vix.columns)}", REMEDY)]


def _published_with_a_bar(vix: pl.DataFrame, stamps: pl.Series) -> int:
    """Return the row of a VIX close, near the middle, published at the very start of a bar, or else of any close."""
    inside = vix.with_row_index("row").filter(pl.col("available_at").is_between(stamps.min(), stamps.max()))
    exact = inside.filter(pl.col("available_at").is_in(stamps.implode()))
    chosen = exact if exact.height else inside
    return int(chosen["row"][(chosen.height - 1) // 2])
