"""Features that say nothing: constant, empty, all zero, twice the same, or nothing but the price level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.leakage.lookback import Declared, declared_lookback
from vpoc_ml.leakage.market import Market
from vpoc_ml.leakage.violations import Violation, feature_columns, matrix

CHECK = "degenerate"
TWINS = 0.999
"""Absolute correlation from which two columns count as one."""
_DEAD = "Look for a renamed column, a wrong index or an unfilled join before it."
_TWIN = "Drop one of them."
_LEVEL = "Divide by, or subtract, a price of the same session: a level of its own is never seen again."
_INVENTED = "Leave NaN where the window is not full; fill nothing."


def check_degenerate(frame: pl.DataFrame, close: pl.Series) -> list[Violation]:
    """Return a finding for each feature without information of its own.

    Args:
        frame: keys and features; rows of several contracts may follow one another.
        close: the close of each row: a feature that goes with it is a raw price level.
    """
    names = feature_columns(frame)
    cells = matrix(frame, names)
    violations, alive = [], []
    for at, name in enumerate(names):
        fault = _fault(cells[:, at])
        if fault:
            violations.append(Violation(CHECK, name, None, None, "finite values that vary", fault, _DEAD))
        else:
            alive.append(at)
    return violations + _twins([names[at] for at in alive], cells[:, alive], close.to_numpy().astype(np.float64))


def check_warmup(market: Market, whole: pl.DataFrame, registry: Mapping[str, Declared]) -> list[Violation]:
    """Return a finding for each feature over several bars that has a value in a contract's first bar.

    The market has no predecessor: nothing can be known there, so a value was filled in.
    """
    violations = []
    for name in feature_columns(whole):
        reach, feature = declared_lookback(registry[name]), registry[name]
        waits = reach.unit == "m" and reach.least > 0 and feature.warmup_bars > 0
        if waits and np.isfinite(float(whole[name][0])):
            expected, found = "NaN in the first bar of all", f"{float(whole[name][0]):g}"
            violations.append(Violation(CHECK, name, market.bars["ts"][0], 0, expected, found, _INVENTED))
    return violations


def _fault(values: NDArray[np.float64]) -> str:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return "none that is finite"
    if finite.min() == finite.max():
        return f"{finite[0]:g} in every row"
    return ""


def _twins(names: list[str], cells: NDArray[np.float64], close: NDArray[np.float64]) -> list[Violation]:
    """Report each pair of columns, the close among them, that go together; only rows with all values count."""
    whole = np.isfinite(cells).all(axis=1) & np.isfinite(close)
    table = np.column_stack((cells, close))[whole]
    if len(table) < 3 or not names:
        return []
    centred = table - table.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    together = np.abs(unit.T @ unit)
    violations = []
    for at, name in enumerate(names):
        if together[at, -1] > TWINS:
            found = f"a correlation of {together[at, -1]:.6f} with the close"
            violations.append(Violation(CHECK, name, None, None, "no raw price level", found, _LEVEL))
        for other in np.flatnonzero(together[at, :at] > TWINS):
            found = f"a correlation of {together[at, other]:.6f} with {names[other]}"
            violations.append(Violation(CHECK, name, None, None, "information of its own", found, _TWIN))
    return violations
