"""As-of check of index values: each carries the time it was published, and a bar reads strictly earlier ones only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.leakage.lookback import DeclaredFeature, declared_lookback
from vpoc_ml.leakage.market import Build, Market
from vpoc_ml.leakage.violations import changed, feature_columns, matrix

AS_OF = "as_of"
AS_OF_REMEDY = "Give every close the time it was published, and join backward, strictly earlier."


class _Deviation(NamedTuple):
    """The row where a feature does not respond as declared, what was expected there and what was found."""

    row: int
    expected: str
    found: str


def check_as_of(
    build: Build, market: Market, features: pl.DataFrame, registry: Mapping[str, DeclaredFeature]
) -> list[Violation]:
    """Return a violation for each feature that reads a VIX close too early, for too long, or undeclared.

    One close in the middle is replaced. Features of family vix must respond in the first bar that starts after its
    publication, not in the bar that starts with it, and stop after as many closes as they declare. Other features must
    not respond. Features that the registry does not name are skipped.
    """
    vix = market.vix
    if vix is None:
        return []
    if "available_at" not in vix.columns or vix["available_at"].has_nulls():
        expected = "available_at, the time of publication, beside every close"
        return [Violation(AS_OF, "vix", None, None, expected, f"columns {', '.join(vix.columns)}", AS_OF_REMEDY)]
    times, known = market.bars["ts"], vix["available_at"]
    at = _close_to_replace(vix, times)
    close = pl.when(pl.int_range(pl.len()) == at).then(pl.col("close") * 1.5).otherwise("close")
    found = build(market.with_vix(vix.with_columns(close=close)), None)
    names = [name for name in feature_columns(features) if name in registry]
    responses = changed(matrix(features, names), matrix(found, names))
    first_known = int(times.search_sorted(known[at], side="right"))
    # closes published since, at each bar: 1 while the replaced close is the newest
    newer = known.search_sorted(times, side="left").to_numpy().astype(np.int64) - at
    violations = []
    for column, name in enumerate(names):
        deviation = _deviation(registry[name], np.flatnonzero(responses[:, column]), newer, first_known)
        if deviation is not None:
            violations.append(Violation(AS_OF, name, times[deviation.row], *deviation, AS_OF_REMEDY))
    return violations


def _deviation(
    feature: DeclaredFeature, rows: NDArray[np.int64], newer: NDArray[np.int64], first_known: int
) -> _Deviation | None:
    """Compare the rows that responded with the declaration; None where they agree."""
    if rows.size == 0:
        return _Deviation(first_known, "a response to a VIX close", "none") if feature.family == "vix" else None
    first, last = int(rows[0]), int(rows[-1])
    if first < first_known:
        expected = "no response before a bar that starts after the publication"
        return _Deviation(first, expected, f"one {first_known - first} bars early")
    if feature.family != "vix":
        return _Deviation(first, "no response to the VIX outside the family vix", "one")
    most, read = declared_lookback(feature).most, int(newer[last])
    return _Deviation(last, f"a lookback of {most} closes", f"one of {read}") if read > most else None


def _close_to_replace(vix: pl.DataFrame, times: pl.Series) -> int:
    """Return the row of a VIX close near the middle, published at the very start of a bar where there is one."""
    inside = vix.with_row_index("row").filter(pl.col("available_at").is_between(times.min(), times.max()))
    exact = inside.filter(pl.col("available_at").is_in(times.implode()))
    candidates = exact if exact.height else inside
    return int(candidates["row"][(candidates.height - 1) // 2])
