"""Difference of a feature's distribution between one contract and all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vpoc_ml.evaluation.forecasts import Floats, Ints

BINS = 10
_PSEUDO = 0.5


def drift(values: Floats, contract: Ints, codes: Sequence[str], scale: float) -> dict[str, dict[str, Any]]:
    """Compare each contract's values with those of all other contracts.

    Args:
        values: one feature, (n,), raw; non-finite values are left out.
        contract: index in ``codes`` of the contract of each row, (n,).
        codes: codes of the contracts.
        scale: the feature's robust scale (IQR of the training rows in units of a normal's sigma).

    Returns:
        By code: ``rows``; ``psi``, the population stability index over the deciles of all rows; ``shift``, the
        difference of the means in scales. Both are None if the contract or all others have no rows.
    """
    finite = np.isfinite(values)
    values, contract = values[finite], contract[finite]
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS)) if values.size else np.zeros(0)
    bin_of = np.searchsorted(edges, values, side="left")
    bins = edges.size + 1
    cells = np.bincount(contract * bins + bin_of, minlength=bins * len(codes)).astype(np.int64)
    counts = cells.reshape(len(codes), bins)
    sums = np.bincount(contract, values, len(codes)).astype(np.float64)
    return {code: _against_others(counts, sums, at, scale) for at, code in enumerate(codes)}


def _against_others(counts: Ints, sums: Floats, at: int, scale: float) -> dict[str, Any]:
    own, others = counts[at], counts.sum(axis=0) - counts[at]
    rows, left = int(own.sum()), int(others.sum())
    if not rows or not left:
        return {"rows": rows, "psi": None, "shift": None}
    shift = float(sums[at] / rows - (sums.sum() - sums[at]) / left) / scale
    return {"rows": rows, "psi": psi(own, others), "shift": shift}


def psi(own: Ints, others: Ints) -> float:
    """Return the population stability index of two histograms over the same bins: sum (p - q) ln(p / q).

    It is symmetric and 0 for equal shares; the credit-scoring convention (Siddiqi 2006) calls less than 0.1
    stable and more than 0.25 a change. Half a row is added to each bin, so that empty bins have a finite index.
    """
    p, q = ((counts + _PSEUDO) / (counts + _PSEUDO).sum() for counts in (own, others))
    return float(((p - q) * np.log(p / q)).sum())
