"""The placebo: on a market that nothing can predict, no feature goes with what comes next.

Two tests a feature, both a correlation with the price change of the next 60 minutes in the same session, in ticks
and in units of its usual size at that time of day:

* ``signed``: with the change itself. A martingale's change has mean zero given the past, so the sum over a session
  of feature times change has too, and the sums of different sessions are uncorrelated.
* ``absolute``: with its size, both residualised on the minute of the session, at the ends of hours only, where the
  generator has just drawn a volatility that nothing before knows (see ``martingale``).

t is the sum of the sessions' sums over the root of the sum of their squares: what happens within a session may be as
dependent as it likes. A feature is cut at its 0.5 and 99.5 percent quantiles first, so that no single minute decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.leakage.market import Market
from vpoc_ml.leakage.martingale import HOUR
from vpoc_ml.leakage.violations import Violation, feature_columns

CHECK = "placebo"
LARGEST = 4.0
"""Absolute t from which a feature knows the future: chance alone gives one in 16 000."""
STRIDE = 5
"""Every so many minutes a row counts; the 60 minutes ahead overlap anyway."""
REMEDY = "Look for a value of the whole session, or of a later one, in its formula."
_CUT = (0.5, 99.5)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """The rows that count: sampled bars with 60 minutes left in their session.

    ``rows`` of the market; ``session`` numbered over all contracts; ``change`` the next hour's in ticks.
    """

    rows: Ints
    session: Ints
    minute: Ints
    change: Floats


@dataclass(frozen=True)
class Skill:
    """The t of one feature; 0 where it does not vary."""

    signed: float
    absolute: float


def outcome(market: Market, first_session: int) -> Outcome:
    """Return what follows each sampled bar of a market in which every minute has a bar."""
    close = market.bars["close"].to_numpy() / market.instrument.tick_size
    number = market.bars["session"].rle_id().to_numpy().astype(np.int64)
    starts = np.searchsorted(number, number)
    minute = np.arange(market.rows) - starts
    left = np.searchsorted(number, number, side="right") - np.arange(market.rows)
    rows = np.flatnonzero((left > HOUR) & (minute % STRIDE == STRIDE - 1))
    return Outcome(rows, number[rows] + first_session, minute[rows], close[rows + HOUR] - close[rows])


def skills(judged: Iterable[tuple[Market, pl.DataFrame]]) -> dict[str, Skill]:
    """Return each feature's t over all markets; each comes with the features a builder made of it."""
    outcomes, frames, sessions = [], [], 0
    for market, frame in judged:
        outcomes.append(outcome(market, sessions))
        frames.append(frame[outcomes[-1].rows])
        sessions = int(outcomes[-1].session[-1]) + 1
    return skills_of(pl.concat(frames), _joined(outcomes))


def skills_of(frame: pl.DataFrame, after: Outcome) -> dict[str, Skill]:
    """Return each feature's t; ``frame`` has the rows of ``after``."""
    change = after.change / _usual(after)
    hourly = after.minute % HOUR == HOUR - 1
    size = _residual(np.abs(change[hourly]), after.minute[hourly])
    found = {}
    for name in feature_columns(frame):
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        signed = _t(_centred(values), change, after.session)
        absolute = _t(_residual(_centred(values[hourly]), after.minute[hourly]), size, after.session[hourly])
        found[name] = Skill(signed, absolute)
    return found


def check_placebo(found: Mapping[str, Skill]) -> list[Violation]:
    """Return a finding for each feature with an absolute t of 4 or more."""
    violations = []
    for name, skill in found.items():
        for kind, t in (("change", skill.signed), ("absolute change", skill.absolute)):
            if not abs(t) < LARGEST:
                expected = f"|t| below {LARGEST:g} against the next hour's {kind} of a market that nothing can predict"
                violations.append(Violation(CHECK, name, None, None, expected, f"t = {t:.1f}", REMEDY))
    return violations


def _usual(after: Outcome) -> Floats:
    """Return the root mean square change at each row's minute."""
    count = np.bincount(after.minute)
    square = np.bincount(after.minute, after.change**2) / np.maximum(count, 1)
    return np.maximum(np.sqrt(square), 1.0)[after.minute]


def _centred(values: Floats) -> Floats:
    """Return the values cut at their outer quantiles, minus their mean; 0 where there is none."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.size)
    low, high = np.percentile(values[finite], _CUT)
    cut = np.clip(values, low, high)
    return np.where(finite, cut - cut[finite].mean(), 0.0)


def _residual(values: Floats, minute: Ints) -> Floats:
    """Return the values minus their mean at the same minute."""
    mean = np.bincount(minute, values) / np.maximum(np.bincount(minute), 1)
    return np.asarray(values - mean[minute], np.float64)


def _t(feature: Floats, change: Floats, session: Ints) -> float:
    sums = np.bincount(session, feature * change)
    noise = float(np.sqrt((sums**2).sum()))
    scale = float(np.sqrt((feature**2).sum() * (change**2).sum()))
    return float(sums.sum()) / noise if noise > 1e-9 * scale else 0.0


def _joined(outcomes: list[Outcome]) -> Outcome:
    parts = ("rows", "session", "minute", "change")
    return Outcome(*(np.concatenate([getattr(each, name) for each in outcomes]) for name in parts))
