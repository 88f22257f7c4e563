"""GARCH(1,1) of five-minute returns, refitted at the start of each session on the 20 completed sessions before it.

Bollerslev, Generalized autoregressive conditional heteroskedasticity, Journal of Econometrics 31 (1986). The time of
day is divided out first, as in Engle and Sokalska, Forecasting intraday volatility in the US equity market, Journal of
Financial Econometrics 10 (2012): otherwise the recursion treats every open as a shock. Returns across the daily break
are left out. The arch package fits the model. Between fits the recursion continues through the bars of the session.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.non_positive_prices import positive
from vpoc_ml.profile.kernels import Ints

log = logging.getLogger(__name__)

SESSIONS = 20
EARLIER_FITS = 5
"""Largest age in sessions of alpha and beta where newer fits failed: the lookback is 25 sessions."""
FEWEST_RETURNS = 500
STEP_MINUTES = 5
SLOT_STEPS = 6
SLOTS = 46
DAY_STEPS = 276
HOUR_STEPS = 12
SMALLEST_SEASON = 0.05
GRAIN = 2.0**20
"""Returns are rounded to this fraction of a basis point. An optimiser amplifies the last digit of a price to the second
digit of a parameter, so a series adjusted at a roll would otherwise be fitted differently from one without a roll."""
DEFAULT = (0.05, 0.90)
"""alpha and beta where none of these fits converged: like RiskMetrics, a little less persistent."""
HIGHEST_PERSISTENCE = 0.9999
SMALLEST_SHARE = 0.01
"""Smallest variance as a share of the window's variance: bounds the log ratio."""


class Steps(NamedTuple):
    """Five-minute log returns of one session in basis points, and the half hour of each since 17:00 Chicago."""

    returns: Floats
    slot: Ints


class Garch(NamedTuple):
    """Recursion h' = omega + alpha y^2 + beta h. ``age``: sessions since its alpha and beta converged, -1: default."""

    omega: float
    alpha: float
    beta: float
    age: int


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the volatility forecast for five minutes, its log ratio to that of the last hour, and alpha + beta.

    The five minutes are those under way, or the next ones at the close of their last bar.
    """
    history = x.full_history
    minute, close = history.minute, history.close
    found, older = np.full((3, close.size), np.nan), 0
    sessions = [slice(start, end) for start, end in pairwise(history.starts)]
    steps = [five_minutes(minute[rows], close[rows]) for rows in sessions]
    for at in range(max(x.past_sessions, SESSIONS), len(sessions)):
        rows, model = sessions[at], fit(steps[:at])
        older += model.age != 0
        found[:, rows] = forecasts(minute[rows], close[rows], model, steps[at - SESSIONS : at])
    if older:
        count = len(sessions) - x.past_sessions
        log.warning("GARCH: %d of %d sessions use older parameters: no convergence", older, count)
    names = ("garch_vol_5m", "garch_ratio_60m", "garch_persistence_20d")
    return dict(zip(names, map(history.own, found), strict=True))


def five_minutes(minute: Ints, close: Floats) -> Steps:
    """Return the returns of one session between the last closes of its five minutes, 0 where nothing traded.

    Args:
        minute: (rows,) minutes since the session's open, increasing.
        close: (rows,) prices in any unit.
    """
    step = minute // STEP_MINUTES
    grid = np.arange(step[0], step[-1] + 1)
    last = close[np.searchsorted(step, grid, side="right") - 1]
    returns = np.rint(1e4 * np.diff(np.log(positive(last))) * GRAIN) / GRAIN
    return Steps(returns, grid[1:] // SLOT_STEPS)


def season_of(sessions: Sequence[Steps]) -> Floats:
    """Return (46,) variance of each half hour over the mean variance, at least 0.05; 1 where none was traded."""
    squares = np.concatenate([one.returns for one in sessions]) ** 2
    slot = np.concatenate([one.slot for one in sessions])
    count, total = np.bincount(slot, minlength=SLOTS), np.bincount(slot, squares, minlength=SLOTS)
    if not squares.any():
        return np.ones(SLOTS)
    share = np.where(count > 0, total / np.maximum(count, 1) / squares.mean(), 1.0)
    return np.maximum(share, SMALLEST_SEASON)


def shocks(sessions: Sequence[Steps], season: Floats) -> Floats:
    """Return the returns of the sessions, one after the other, over the root of their half hour's variance."""
    return np.concatenate([one.returns / np.sqrt(season[one.slot]) for one in sessions])


def fit(sessions: Sequence[Steps]) -> Garch:
    """Return the model fitted on the last 20 sessions.

    Where the optimiser does not converge or finds no stationary recursion, alpha and beta are those of the session
    before, up to five sessions back, and then ``DEFAULT``. Omega is then chosen to match the variance of the window.

    Args:
        sessions: completed sessions, at least 20, oldest first.
    """
    newest = shocks(sessions[-SESSIONS:], season_of(sessions[-SESSIONS:]))
    for age in range(min(EARLIER_FITS, len(sessions) - SESSIONS) + 1):
        window = sessions[len(sessions) - age - SESSIONS : len(sessions) - age]
        values = newest if age == 0 else shocks(window, season_of(window))
        found = converged_fit(values.tobytes())
        if found is not None:
            return Garch(*found, age) if age == 0 else _targeted(newest, found[1], found[2], age)
    return _targeted(newest, *DEFAULT, age=-1)


def forecasts(minute: Ints, close: Floats, model: Garch, window: Sequence[Steps]) -> Floats:
    """Return (3, rows): volatility in percent a day, ln of it over that of the last hour, persistence.

    Args:
        minute: (rows,) minutes since the open of the session to forecast in.
        close: (rows,) its closes, in the unit of the window's.
        model: fitted on ``window``.
        window: the 20 completed sessions before.
    """
    own, season = five_minutes(minute, close), season_of(window)
    before = shocks(window, season)
    values = np.concatenate((before, own.returns / np.sqrt(season[own.slot])))
    variance = float(np.sum(before**2)) / max(before.size, 1)
    conditional = filtered(values, *model[:3], variance)
    under_way = minute // STEP_MINUTES + (minute % STEP_MINUTES == STEP_MINUTES - 1)
    at = before.size + np.maximum(under_way - minute[0] // STEP_MINUTES - 1, 0)
    now = np.minimum(under_way // SLOT_STEPS, SLOTS - 1)
    forecast, floor = conditional[at], max(SMALLEST_SHARE * variance, 1e-9)
    # mean square of the last 12 values before each row; missing ones count as 0
    squares = np.concatenate((np.zeros(HOUR_STEPS), values**2))
    last_hour = np.zeros(conditional.size)
    for ago in range(HOUR_STEPS):
        last_hour += squares[ago : ago + conditional.size]
    ratio = np.log(np.maximum(forecast, floor) / np.maximum(last_hour[at] / HOUR_STEPS, floor)) / 2
    volatility = np.sqrt(DAY_STEPS * forecast * season[now]) / 100
    return np.stack((volatility, ratio, np.full(at.size, model.alpha + model.beta)))


@numba.njit(cache=True, nogil=True)
def filtered(values: Floats, omega: float, alpha: float, beta: float, first: float) -> Floats:
    """Return (rows + 1,) conditional variances: entry t is known before value t, the last is the forecast."""
    out = np.empty(values.size + 1)
    out[0] = first
    for row in range(values.size):
        out[row + 1] = omega + alpha * values[row] ** 2 + beta * out[row]
    return out


@lru_cache(maxsize=128)
def converged_fit(values: bytes) -> tuple[float, float, float] | None:
    """Return omega, alpha, beta of float64 ``values``; None without convergence. Cached, because chunks repeat fits."""
    series = np.frombuffer(values)
    if series.size < FEWEST_RETURNS or not series.any():
        return None
    from arch import arch_model  # takes seconds to import, and only this family needs it

    model = arch_model(series, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
    result = model.fit(disp="off", show_warning=False)
    omega, alpha, beta = (float(each) for each in result.params)
    good = result.convergence_flag == 0 and np.isfinite((omega, alpha, beta)).all()
    return (omega, alpha, beta) if good and alpha + beta < HIGHEST_PERSISTENCE else None


def _targeted(values: Floats, alpha: float, beta: float, age: int) -> Garch:
    """Return the model with these parameters whose unconditional variance is that of ``values``."""
    return Garch(float(np.mean(values**2)) * (1 - alpha - beta), alpha, beta, age)
