"""Bars of a contract behind bars of its past: what windows over bars read."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpoc_ml.features.history import BarColumns, Floats, Ints
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.features.pointwise import fixed_point, fixed_squares
from vpoc_ml.features.series import change_over
from vpoc_ml.features.windows import rolling_sum

CHANGE_BITS, LOG_BITS = 14, 20
"""Fixed point of a change of the close in ticks, and of a logarithm of volume."""
LARGEST_CHANGE = 2.0**12
"""Largest change of the close in ticks in a moment (1024 points of ES): products of 60 rows fit in int64."""


@dataclass(frozen=True)
class BarHistory:
    """Bars of the past, then the contract's own bars: one entry per bar, oldest first.

    Prices are in ticks; those of a predecessor are ratio-adjusted and not whole. Volumes are as traded. The last
    ``own_rows`` entries are the contract's own bars, and ``own`` selects them. ``day`` is the row of the bar's session
    in ``Inputs.daily``, ``minute`` the minutes since the session's open, ``ts`` the start in microseconds UTC.
    ``log_return`` is 0 in the first bar of the full history. ``squares`` and ``log_volume`` (of 1 + V) are in fixed
    point of ``SQUARE_BITS`` and ``LOG_BITS``. No array may be written to.
    """

    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    minute: Ints
    day: Ints
    ts: Ints
    log_close: Floats
    log_return: Floats
    squares: Ints
    log_volume: Ints
    own_rows: int

    @classmethod
    def join(cls, past: BarColumns, own: BarColumns) -> BarHistory:
        """Return the full history: all bars of the past, then the contract's own."""
        pairs = zip(past, own, strict=True)
        bars = BarColumns._make(np.concatenate(each) if each[0].size else each[1] for each in pairs)
        log_close = np.asarray(np.log(positive(bars.close)), np.float64)
        log_return = change_over(log_close, 1)
        log_return[:1] = 0
        log_volume = np.asarray(fixed_point(np.log(1.0 + bars.volume), LOG_BITS), np.int64)
        return cls(*bars, log_close, log_return, fixed_squares(log_return), log_volume, own.close.size)

    def pad(self, bars: int) -> BarHistory:
        """Return the contract's own bars behind at most ``bars`` bars of the past; the arrays are views."""
        first = max(self.close.size - self.own_rows - bars, 0)
        columns = (field.name for field in fields(self) if field.name != "own_rows")
        return replace(self, **{name: getattr(self, name)[first:] for name in columns})

    def own(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entries of the contract's own bars, of an array over this history."""
        return values[len(values) - self.own_rows :]

    def own_after(self, values: Floats, bars: int) -> Floats:
        """Return ``own(values)``, with NaN where a bar has fewer than ``bars`` bars before it.

        The NaN are written into ``values``.
        """
        values[:bars] = np.nan
        return self.own(values)

    @cached_property
    def starts(self) -> Ints:
        """First row of each session, then the number of rows."""
        changes = np.flatnonzero(self.day[1:] != self.day[:-1]) + 1
        return np.concatenate(([0], changes, [self.day.size])).astype(np.int64)

    @cached_property
    def own_starts(self) -> Ints:
        """First row of each session of the contract's own bars, then the number of rows."""
        past = self.close.size - self.own_rows
        return self.starts[self.starts >= past]

    @cached_property
    def change(self) -> Floats:
        """Change of the close over one bar in ticks; 0 in the first bar."""
        change = change_over(self.close, 1)
        change[:1] = 0
        return change

    @cached_property
    def fixed_change(self) -> Ints:
        """``change``, at most 4096 ticks, in fixed point of ``CHANGE_BITS``."""
        change = np.clip(self.change, -LARGEST_CHANGE, LARGEST_CHANGE)
        return np.asarray(fixed_point(change, CHANGE_BITS), np.int64)

    @cached_property
    def flow(self) -> Ints:
        """Volume with the sign of ``change``."""
        return np.asarray(np.sign(self.change).astype(np.int64) * self.volume, np.int64)

    @cached_property
    def square_sum_30(self) -> Floats:
        """Sum of the last 30 ``squares``."""
        return np.asarray(rolling_sum(self.squares, 30), np.float64)

    @cached_property
    def square_sum_390(self) -> Floats:
        """Sum of the last 390 ``squares``."""
        return np.asarray(rolling_sum(self.squares, 390), np.float64)
