"""Where in its session a bar stands."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

SESSION_MINUTES = 1380
OPEN_MINUTE = 17 * 60
DAY_MINUTES = 24 * 60
_MINUTE = 60_000_000


def minutes_since_open(ts: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the minutes from the open of the session, 17:00 Chicago in winter and summer, to the start of each bar.

    Args:
        ts: (bars,) starts of the bars, microseconds UTC, oldest first.
        starts: first row of each session, then the number of bars. Only these bars are converted to local time:
            clocks change at two on a Sunday morning, when no session is open.
    """
    utc = pl.Series(ts[starts[:-1]]).cast(pl.Datetime("us", "UTC"))
    local = utc.dt.convert_time_zone("America/Chicago").dt.replace_time_zone(None).to_physical().to_numpy()
    ahead = (local // _MINUTE - OPEN_MINUTE) % DAY_MINUTES - ts[starts[:-1]] // _MINUTE
    return ts // _MINUTE + np.repeat(ahead, np.diff(starts))
