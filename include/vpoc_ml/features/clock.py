"""Where in its session a bar stands."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

SESSION_MINUTES = 1380
OPEN_MINUTE = 17 * 60


def minutes_since_open(ts: pl.Series) -> NDArray[np.int64]:
    """Return the minutes from the open of the session, 17:00 Chicago in winter and summer, to the start of each bar."""
    local = ts.dt.convert_time_zone("America/Chicago").dt
    clock = local.hour().cast(pl.Int64) * 60 + local.minute()
    return np.asarray((clock.to_numpy() - OPEN_MINUTE) % 1440, np.int64)
