"""Time of day, weekday, sessions to the roll, and the gap at the session's open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np

from vpoc_ml.features.clock import DAY_MINUTES, SESSION_MINUTES
from vpoc_ml.features.history import Floats, Ints
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.series import lagged
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions

FARTHEST_ROLL = 70


def tod_sin(x: Inputs) -> Floats:
    """Sine of the time of day."""
    return _of_minute(x, np.sin)


def tod_cos(x: Inputs) -> Floats:
    """Cosine of the time of day."""
    return _of_minute(x, np.cos)


def is_rth(x: Inputs) -> Floats:
    """1 in regular trading hours, else 0."""
    return np.asarray(x.frame["rth"].to_numpy(), np.float64)


def dow(x: Inputs) -> Floats:
    """Weekday of the trade date, 0 on Monday to 1 on Friday."""
    return x.at_bars((x.sessions.dt.weekday().to_numpy() - 1) / 4)


def days_to_roll(x: Inputs) -> Floats:
    """Sessions from the bar's own up to the contract's scheduled roll, 0 from that day on, at most 70."""
    roll = parse_contract(x.frame["contract"][0], where="bars").scheduled_roll
    first = x.sessions[0]
    if first >= roll:
        return np.zeros(x.frame.height)
    before_roll = sessions(x.instrument.calendar, first, roll - timedelta(days=1))["session"]
    left: Ints = before_roll.len() - before_roll.search_sorted(x.sessions, side="left").to_numpy()
    return x.at_bars(np.minimum(left, FARTHEST_ROLL).astype(np.float64))


def gap_open(x: Inputs) -> Floats:
    """Open of the session minus the close of the session before, in ATR."""
    return x.of_session((x.daily["open"] - lagged(x.daily["close"], 1)) / x.session_atr)


def _of_minute(x: Inputs, function: Callable[[Floats], Floats]) -> Floats:
    """Return a function of the angle of each bar's minute, computed once per minute of the clock."""
    return function(2 * np.pi * np.arange(DAY_MINUTES) / SESSION_MINUTES)[x.minute]
