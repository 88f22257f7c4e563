"""Where in its session a bar stands."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.profile.ticks import session_starts

SESSION_MINUTES = 1380
OPEN_MINUTE = 17 * 60
DAY_MINUTES = 24 * 60
_MINUTE = 60_000_000


def minutes_since_open(ts: pl.Series) -> NDArray[np.int64]:
    """Return the minutes from the open of the session, 17:00 Chicago in winter and summer, to the start of each bar."""
    clock = ts.dt.cast_time_unit("us").to_physical().to_numpy() // _MINUTE
    hour = clock // 60
    starts = session_starts(pl.Series(hour))  # an hour of UTC has one offset: convert one bar of it
    local = ts.gather(starts[:-1]).dt.convert_time_zone("America/Chicago").dt
    opened = (local.hour().cast(pl.Int64).to_numpy() * 60 - OPEN_MINUTE) % DAY_MINUTES
    return np.asarray(np.repeat(opened - 60 * hour[starts[:-1]], np.diff(starts)) + clock, np.int64)
