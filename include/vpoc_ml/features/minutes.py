"""Values by session and minute, to measure a minute against the same minute of earlier sessions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpoc_ml.features.history import Floats, Ints

DAY = 1440
"""Columns of a grid: every minute a clock can show, though a session has 1380."""


class Minutes(NamedTuple):
    """The places of bars in a grid of one row a session, one column a minute from the open.

    ``cell``: int64, of each bar. ``spans``: int64, shape (sessions, 2), minutes of the first and the last bar of each
    session. What an early close cut off, or a delivery that begins late, lies outside and is not counted as silence.
    """

    cell: Ints
    spans: Ints

    def grid(self, values: Ints) -> Ints:
        """Return values of the bars by session and minute, 0 in a minute without a bar."""
        grid = np.zeros(self.spans.shape[0] * DAY, np.int64)
        grid[self.cell] = values
        return grid.reshape(-1, DAY)

    def at_last(self, bars: int, grid: Floats) -> Floats:
        """Return the entries of a grid at the last ``bars`` bars."""
        return grid.ravel()[self.cell[self.cell.size - bars :]]


def minutes_of(minute: Ints, starts: Ints) -> Minutes:
    """Return the places of bars, given each one's minute from the open.

    Args:
        minute: (bars,), sessions in order.
        starts: first row of each session, then the number of bars.
    """
    rows = np.repeat(DAY * np.arange(starts.size - 1), np.diff(starts))
    return Minutes(rows + minute, np.column_stack((minute[starts[:-1]], minute[starts[1:] - 1])))
