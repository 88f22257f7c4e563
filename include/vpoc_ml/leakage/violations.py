"""What a check reports, and the comparison most of them make: the same rows, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

KEYS = ("ts", "contract", "session")
ALL = "*"
"""Stands for "every feature" where a finding is about the rows themselves."""


@dataclass(frozen=True)
class Violation:
    """One broken promise of a builder: the first place where it shows.

    ``ts`` is the start of the first offending bar in UTC, ``row`` its place among the rows judged; None where a
    finding is about a whole column.
    """

    check: str
    feature: str
    ts: datetime | None
    row: int | None
    expected: str
    found: str
    remedy: str

    def line(self) -> str:
        """Return the finding as one line of a message."""
        where = f" at {self.ts.isoformat()} (row {self.row})" if self.ts else ""
        return f"{self.check}: {self.feature}{where}: expected {self.expected}; found {self.found}. {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as strict JSON values."""
        return asdict(self) | {"ts": self.ts.isoformat() if self.ts else None}


def from_json(value: Mapping[str, Any]) -> Violation:
    """Return the finding that ``Finding.to_json`` gave."""
    ts = value["ts"]
    return Violation(**{**value, "ts": datetime.fromisoformat(ts) if ts else None})


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
    check: str, expected: pl.DataFrame, found: pl.DataFrame, told: tuple[str, str], *, first_row: int = 0
) -> list[Violation]:
    """Compare two frames of the same rows and return, for each feature that differs, the first row where it does.

    Args:
        check: name of the check.
        expected: ``ts, contract, session`` and features, as they should be.
        found: the same rows and columns, as they are.
        told: what ``found`` is ("computed from the first 40 bars only"), and what to do about a difference.
        first_row: row of the market at which the frames begin.
    """
    how, remedy = told
    if not expected.select(KEYS).equals(found.select(KEYS)) or expected.columns != found.columns:
        rows = f"{expected.height} rows and {expected.width} columns", f"{found.height} and {found.width}"
        other = rows[1] if found.shape != expected.shape else "other stamps, sessions or columns"
        return [Violation(check, ALL, None, None, f"the same {rows[0]} {how}", other, remedy)]
    names = feature_columns(expected)
    one, other_cells = matrix(expected, names), matrix(found, names)
    wrong = changed(one, other_cells)
    violations = []
    for at in np.flatnonzero(wrong.any(axis=0)):
        row = int(wrong[:, at].argmax())
        shown = f"{one[row, at]:.9g}", f"{other_cells[row, at]:.9g} {how} ({int(wrong[:, at].sum())} rows differ)"
        violations.append(Violation(check, names[at], expected["ts"][row], first_row + row, *shown, remedy))
    return violations


def merged(violations: list[Violation]) -> list[Violation]:
    """Return the first finding of each check and feature, earliest row first."""
    first: dict[tuple[str, str], Violation] = {}
    for one in violations:
        known = first.get((one.check, one.feature))
        if known is None or (one.row is not None and (known.row is None or one.row < known.row)):
            first[one.check, one.feature] = one
    return list(first.values())
