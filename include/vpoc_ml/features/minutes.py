"""Volume by session and minute, to measure a minute against the same minute of earlier sessions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpoc_ml.features.clock import SESSION_MINUTES
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.profile.kernels import Ints


class Grid(NamedTuple):
    """One row a session of ``daily``, one column a minute from the open.

    ``volume`` is 0 in a minute without a bar; ``traded`` is 1 from a session's first bar to its last, else 0: what
    an early close cut off, or a delivery that begins late, does not count as silence.
    """

    volume: Ints
    traded: Ints


def volume_grid(x: Inputs) -> Grid:
    """Return the volumes of past sessions and of the bars, as traded."""
    day, minute = x.whole("day"), x.whole("minute")
    volume = np.zeros((x.daily["close"].size, SESSION_MINUTES), np.int64)
    volume[day, minute] = x.whole("volume")
    edges = np.searchsorted(day, np.arange(volume.shape[0] + 1))
    first, last = minute[edges[:-1], None], minute[edges[1:] - 1, None]
    columns = np.arange(SESSION_MINUTES)
    return Grid(volume, ((first <= columns) & (columns <= last)).astype(np.int64))


def of_sessions_before(x: Inputs, values: Ints, sessions: int) -> Ints:
    """Return, for every bar, the sum of ``values`` at its minute over the sessions before its own.

    ``values`` have one row a session and one column a minute; where fewer sessions lie before, their sum.
    """
    total = np.zeros((values.shape[0] + 1, SESSION_MINUTES), np.int64)
    np.cumsum(values, axis=0, out=total[1:])
    return np.asarray(total[x.day, x.minute] - total[np.maximum(x.day - sessions, 0), x.minute], np.int64)
