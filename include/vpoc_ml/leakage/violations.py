"""Comparison of feature frames bit by bit, and the violations found by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult, Violation
from vpoc_ml.artifacts.schemas import FEATURE_KEYS

KEYS = tuple(FEATURE_KEYS)
ALL = "*"
"""The feature of a violation that concerns the rows themselves."""


def feature_columns(frame: pl.DataFrame) -> list[str]:
    """Return the columns of a builder's frame that are features."""
    return [name for name in frame.columns if name not in KEYS]


def matrix(frame: pl.DataFrame, names: list[str]) -> NDArray[np.float64]:
    """Return columns as Float64 (exact for Float32), ``[rows, columns]``; null is NaN."""
    cells = frame.select(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in names)
    return cells.to_numpy().reshape(frame.height, len(names))


def changed(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where two arrays differ in any bit; NaN equals NaN, whatever its payload."""
    bits = one.copy().view(np.int64) != other.copy().view(np.int64)
    return np.asarray(bits & ~(np.isnan(one) & np.isnan(other)), np.bool_)


def differences(
    check: str, expected: pl.DataFrame, found: pl.DataFrame, how: str, remedy: str, *, first_row: int = 0
) -> list[Violation]:
    """Compare two frames of the same rows and return, for each feature that differs, the first row where it does.

    Args:
        check: name of the check.
        expected: ``ts, contract, session`` and features, as they should be.
        found: the same rows and columns, as they are.
        how: how ``found`` was computed, such as "in chunks of 7 bars".
        remedy: what to do about a difference.
        first_row: row of the market at which the frames begin.
    """
    if not expected.select(KEYS).equals(found.select(KEYS)) or expected.columns != found.columns:
        shapes = f"{expected.height} rows and {expected.width} columns", f"{found.height} and {found.width}"
        other = shapes[1] if found.shape != expected.shape else "other timestamps, sessions or columns"
        return [Violation(check, ALL, None, None, f"the same {shapes[0]} {how}", other, remedy)]
    names = feature_columns(expected)
    one, other_cells = matrix(expected, names), matrix(found, names)
    wrong = changed(one, other_cells)
    violations = []
    for at in np.flatnonzero(wrong.any(axis=0)):
        row = int(wrong[:, at].argmax())
        shown = f"{one[row, at]:.9g}", f"{other_cells[row, at]:.9g} {how} ({int(wrong[:, at].sum())} rows differ)"
        violations.append(Violation(check, names[at], expected["ts"][row], first_row + row, *shown, remedy))
    return violations


def earliest(violations: Iterable[Violation]) -> list[Violation]:
    """Return the earliest violation of each check and feature."""
    first: dict[tuple[str, str], Violation] = {}
    for one in violations:
        known = first.get((one.check, one.feature))
        if known is None or (one.row is not None and (known.row is None or one.row < known.row)):
            first[one.check, one.feature] = one
    return list(first.values())


def check_results(
    comparisons: Mapping[str, int], violations: Iterable[Violation], expected: Mapping[str, str]
) -> list[LeakageCheckResult]:
    """Return one result per check; ``expected`` states by check what it expects."""
    violations = list(violations)
    results = []
    for check, count in comparisons.items():
        broken = [one for one in violations if one.check == check]
        first = sorted(one.ts for one in broken if one.ts is not None)
        results.append(
            LeakageCheckResult(check, expected[check], count, tuple(one.line() for one in broken), tuple(first))
        )
    return results
