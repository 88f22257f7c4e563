"""Volume by session and minute, to measure a minute against the same minute of earlier sessions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpoc_ml.features.history import Ints

DAY = 1440
"""Columns of a grid: every minute a clock can show, though a session has 1380."""


class Grid(NamedTuple):
    """One row a session, one column a minute from the open.

    ``volume`` is 0 in a minute without a bar; ``traded`` is 1 from a session's first bar to its last, else 0: what
    an early close cut off, or a delivery that begins late, does not count as silence.
    """

    volume: Ints
    traded: Ints


def volume_grid(day: Ints, minute: Ints, volume: Ints, sessions: int) -> Grid:
    """Return the grid of bars, given each one's session in order, minute from the open, and contracts traded."""
    grid = np.zeros((sessions, DAY), np.int64)
    grid.ravel()[day * DAY + minute] = volume
    edges = np.searchsorted(day, np.arange(sessions + 1))
    first, last = minute[edges[:-1], None], minute[edges[1:] - 1, None]
    columns = np.arange(DAY)
    return Grid(grid, ((first <= columns) & (columns <= last)).astype(np.int64))
