"""Features without information: constant, empty, all zero, collinear with another one, or a raw price level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.leakage.comparison import Market, feature_columns, matrix
from vpoc_ml.leakage.lookback import DeclaredFeature, declared_lookback

CHECK = "degenerate"
COLLINEAR = 0.999
"""Absolute correlation from which two columns count as one."""
_DEAD = "Look for a renamed column, a wrong index or an unfilled join before it."
_COPY = "Drop one of them."
_LEVEL = "Divide by, or subtract, a price of the same session: the price level does not recur."
_FILLED = "Leave NaN where the window is not full; fill nothing."


def check_degenerate(frame: pl.DataFrame, close: pl.Series) -> list[Violation]:
    """Return a violation for each feature without information of its own.

    Args:
        frame: keys and features; rows of several contracts may follow one another.
        close: the close of each row. A feature collinear with it is a raw price level.
    """
    names = feature_columns(frame)
    cells = matrix(frame, names)
    violations, alive = [], []
    for at, name in enumerate(names):
        finite = cells[:, at][np.isfinite(cells[:, at])]
        if finite.size and finite.min() < finite.max():
            alive.append(at)
            continue
        found = f"{finite[0]:g} in every row" if finite.size else "none that is finite"
        violations.append(Violation(CHECK, name, None, None, "finite values that vary", found, _DEAD))
    return violations + _collinear_pairs(
        [names[at] for at in alive], cells[:, alive], close.to_numpy().astype(np.float64)
    )


def _collinear_pairs(names: list[str], cells: NDArray[np.float64], close: NDArray[np.float64]) -> list[Violation]:
    """Report each collinear pair of columns, the close among them; rows with a missing value are left out."""
    complete = np.isfinite(cells).all(axis=1) & np.isfinite(close)
    table = np.column_stack((cells, close))[complete]
    if len(table) < 3 or not names:
        return []
    centred = table - table.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    correlation = np.abs(unit.T @ unit)
    violations = []
    for at, name in enumerate(names):
        if correlation[at, -1] > COLLINEAR:
            found = f"a correlation of {correlation[at, -1]:.6f} with the close"
            violations.append(Violation(CHECK, name, None, None, "no raw price level", found, _LEVEL))
        for other in np.flatnonzero(correlation[at, :at] > COLLINEAR):
            found = f"a correlation of {correlation[at, other]:.6f} with {names[other]}"
            violations.append(Violation(CHECK, name, None, None, "information of its own", found, _COPY))
    return violations


def check_warmup(market: Market, features: pl.DataFrame, registry: Mapping[str, DeclaredFeature]) -> list[Violation]:
    """Return a violation for each feature over several bars that has a value in a contract's first bar.

    The market has no predecessor. Nothing can be known in its first bar, so the value was filled in.
    """
    violations = []
    for name in feature_columns(features):
        declared, value = declared_lookback(registry[name]), float(features[name][0])
        needs_bars = declared.unit == "m" and declared.least > 0 and registry[name].warmup_bars > 0
        if needs_bars and np.isfinite(value):
            ts = market.bars["ts"][0]
            violations.append(Violation(CHECK, name, ts, 0, "NaN in the first bar of all", f"{value:g}", _FILLED))
    return violations
