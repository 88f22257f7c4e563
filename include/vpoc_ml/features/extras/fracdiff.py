"""Fractionally differenced log close: nearly stationary, with a long memory of the price.

Fixed-width window of Lopez de Prado, Advances in Financial Machine Learning (2018), section 5.5.
"""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive

ORDER = 0.4
THRESHOLD = 1e-4


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the fractional difference of order 0.4, in basis points."""
    weights = fixed_width_weights(ORDER, THRESHOLD)
    bars = x.full_history.pad(weights.size - 1)
    return {"fracdiff_04": bars.own(fractional_difference(bars.close, weights))}


def fixed_width_weights(order: float, threshold: float) -> Floats:
    """Return the binomial weights of (1 - B)^order, newest bar first, down to the last of at least ``threshold``.

    w_0 = 1, w_k = -w_{k-1} (order - k + 1) / k; for an order between 0 and 1 all but the first are negative and
    shrink in size.
    """
    weights = [1.0]
    while abs(following := -weights[-1] * (order - len(weights) + 1) / len(weights)) >= threshold:
        weights.append(following)
    return np.array(weights)


def fractional_difference(close: Floats, weights: Floats) -> Floats:
    """Return 1e4 sum_k w_k ln(C[-k] / C[-K+1]), K weights; NaN in the first K - 1 rows. A flat window gives 0.

    The cut weights do not sum to 0, so the plain sum would keep a share of the price level and jump at every roll. Logs
    are therefore taken relative to the oldest close of the window.

    Args:
        close: (rows,) float64 prices in any unit, oldest first.
        weights: (K,) float64, newest first.
    """
    longest, logs = weights.size - 1, np.log(positive(close))
    difference = np.full(close.size, np.nan)
    if close.size > longest:
        oldest = logs[: close.size - longest]
        total = np.zeros(oldest.size)
        for ago, weight in enumerate(weights):  # in a fixed order, which a dot product does not guarantee
            total += weight * (logs[longest - ago : close.size - ago] - oldest)
        difference[longest:] = 1e4 * total
    return difference
