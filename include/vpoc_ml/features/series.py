"""Series of one entry a row, oldest first, and their windows, exact wherever the series begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vpoc_ml.features.history import Floats


def lagged(values: NDArray[np.generic], bars: int) -> Floats:
    """Return the value ``bars`` rows earlier, NaN where there was none."""
    earlier = np.empty(values.size)
    earlier[:bars] = np.nan
    earlier[bars:] = values[: max(values.size - bars, 0)]
    return earlier


def change_over(values: Floats, bars: int) -> Floats:
    """Return each value minus the one ``bars`` rows earlier, NaN where there was none."""
    change = np.empty(values.size)
    change[:bars] = np.nan
    np.subtract(values[bars:], values[:-bars], out=change[bars:])
    return change


def rolling_extreme(values: Floats, bars: int, further: np.ufunc) -> Floats:
    """Return the extreme of the last ``bars`` values of every row, of all so far where there are fewer.

    That of 2n rows is the ``further`` of two of n rows, so 60 bars take six passes.

    Args:
        values: (rows,), oldest first.
        bars: length of the window.
        further: ``np.maximum`` or ``np.minimum``.
    """
    reached, spare, width = values.copy(), np.empty_like(values), 1
    while width < bars:
        step = min(width, bars - width)
        spare[:step] = reached[:step]
        further(reached[step:], reached[:-step], out=spare[step:])
        reached, spare, width = spare, reached, width + step
    return reached
