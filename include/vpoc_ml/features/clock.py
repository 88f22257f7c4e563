"""Position of a bar in its session: minutes since the open, and a grid of sessions by minutes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

SESSION_MINUTES = 1380
OPEN_MINUTE = 17 * 60
DAY_MINUTES = 24 * 60
"""Minutes of a day and columns of a grid: every minute a clock can show, although a session has 1380."""
_MINUTE = 60_000_000


def minutes_since_open(ts: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the minutes from the open of the session (17:00 Chicago in winter and summer) to the start of each bar.

    Args:
        ts: (bars,) starts of the bars, microseconds UTC, oldest first.
        starts: first row of each session, then the number of bars. Only these bars are converted to local time:
            clocks change at two on a Sunday morning, when no session is open.
    """
    utc = pl.Series(ts[starts[:-1]]).cast(pl.Datetime("us", "UTC"))
    local = utc.dt.convert_time_zone("America/Chicago").dt.replace_time_zone(None).to_physical().to_numpy()
    ahead = (local // _MINUTE - OPEN_MINUTE) % DAY_MINUTES - ts[starts[:-1]] // _MINUTE
    return ts // _MINUTE + np.repeat(ahead, np.diff(starts))


class MinuteGrid(NamedTuple):
    """The cells of bars in a grid with one row per session and one column per minute since the open.

    ``cell`` (int64) is the cell of each bar. ``spans`` (int64, shape (sessions, 2)) holds the minutes of the first and
    the last bar of each session. Minutes outside it, after an early close or before a late first bar, do not count as
    minutes without volume.
    """

    cell: NDArray[np.int64]
    spans: NDArray[np.int64]

    @classmethod
    def of_bars(cls, minute: NDArray[np.int64], starts: NDArray[np.int64]) -> MinuteGrid:
        """Return the grid of bars.

        Args:
            minute: (bars,) minutes since the open, sessions in order.
            starts: first row of each session, then the number of bars.
        """
        rows = np.repeat(DAY_MINUTES * np.arange(starts.size - 1), np.diff(starts))
        return cls(rows + minute, np.column_stack((minute[starts[:-1]], minute[starts[1:] - 1])))

    def fill(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return values of the bars by session and minute, 0 in a minute without a bar."""
        grid = np.zeros(self.spans.shape[0] * DAY_MINUTES, np.int64)
        grid[self.cell] = values
        return grid.reshape(-1, DAY_MINUTES)

    def at_last(self, bars: int, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the entries of a grid at the last ``bars`` bars."""
        return grid.ravel()[self.cell[self.cell.size - bars :]]
