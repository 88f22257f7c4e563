"""Compiled elementwise arithmetic: one pass where numpy would write and read an array at every step.

``error_model="numpy"`` selects numpy's rules for a division by zero. With Python's rules every division is checked
and no loop is vectorised.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vpoc_ml.features.history import Floats, Ints

SQUARE_BITS = 54
"""Fixed point of a squared return: one tick of ES keeps 7 digits, and 390 squares of 1 (the maximum) still fit.

Integer sums are exact: a flat window gives 0, and a jump that has left the window leaves no rest.
"""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def ratio(numerator: NDArray[Any], denominator: NDArray[Any], otherwise: float) -> Floats:
    """Return the quotient of two arrays, and ``otherwise`` where the denominator is 0."""
    found = np.empty(numerator.size, np.float64)
    for row in range(numerator.size):
        found[row] = numerator[row] / denominator[row] if denominator[row] != 0 else otherwise
    return found


@numba.njit(cache=True, nogil=True)
def fixed_point(values: Floats, bits: int) -> Ints:
    """Return the values in multiples of ``2**-bits``. Their sums are exact in any order and from any start."""
    found, one = np.empty(values.size, np.int64), 2.0**bits
    for row in range(values.size):
        found[row] = np.int64(np.rint(values[row] * one))
    return found


def fixed_squares(returns: Floats) -> Ints:
    """Return the squares, each at most 1, in fixed point of ``SQUARE_BITS``."""
    return np.asarray(fixed_point(np.minimum(returns * returns, 1.0), SQUARE_BITS), np.int64)
