"""Placebo: on a market that nothing can predict, no feature correlates with what comes next.

Every feature has two tests. Both correlate it with the price change of the next 60 minutes in the same session, in
ticks and in units of its usual size at that time of day:

* ``signed``: with the change itself. The change of a martingale has mean zero given the past. So has the sum over a
  session of feature times change, and the sums of different sessions are uncorrelated.
* ``absolute``: with its size, both residualised on the minute of the session, at the ends of hours only. There the
  generator has just drawn a volatility that does not depend on the past (see ``generated_markets.martingale``).

t is the sum of the sessions' sums over the root of the sum of their squares, so any dependence within a session is
allowed. A feature is first clipped to its 0.5 and 99.5 percent quantiles, so that no single minute decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.artifacts.leakage_proof import Skill, Violation
from vpoc_ml.leakage.comparison import Market, feature_columns
from vpoc_ml.leakage.generated_markets import HOUR

CHECK = "placebo"
LARGEST = 4.0
"""Absolute t from which a feature counts as a leak: chance alone gives one in 16 000."""
STRIDE = 5
"""Minutes between sampled rows; their 60 minutes ahead overlap anyway."""
REMEDY = "Look for a value of the full session, or of a later one, in its formula."
_QUANTILES = (0.5, 99.5)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class NextHour:
    """The sampled rows and what follows them: bars with 60 minutes left in their session.

    ``rows`` of the market; ``session`` numbered over all contracts; ``change`` of the next hour in ticks.
    """

    rows: Ints
    session: Ints
    minute: Ints
    change: Floats

    @classmethod
    def of_market(cls, market: Market, first_session: int) -> NextHour:
        """Return what follows each sampled bar of a market in which every minute has a bar."""
        close = market.bars["close"].to_numpy() / market.instrument.tick_size
        number = market.bars["session"].rle_id().to_numpy().astype(np.int64)
        minute = np.arange(market.rows) - np.searchsorted(number, number)
        left = np.searchsorted(number, number, side="right") - np.arange(market.rows)
        rows = np.flatnonzero((left > HOUR) & (minute % STRIDE == STRIDE - 1))
        return cls(rows, number[rows] + first_session, minute[rows], close[rows + HOUR] - close[rows])

    @classmethod
    def concat(cls, parts: list[NextHour]) -> NextHour:
        """Return the rows of several markets, one after the other."""
        names = ("rows", "session", "minute", "change")
        return cls(*(np.concatenate([getattr(each, name) for each in parts]) for name in names))


def skills(built: Iterable[tuple[Market, pl.DataFrame]]) -> dict[str, Skill]:
    """Return each feature's t over all markets, each given with the features a builder computed from it."""
    parts, frames, sessions = [], [], 0
    for market, frame in built:
        parts.append(NextHour.of_market(market, sessions))
        frames.append(frame[parts[-1].rows])
        sessions = int(parts[-1].session[-1]) + 1
    return skills_of(pl.concat(frames), NextHour.concat(parts))


def skills_of(frame: pl.DataFrame, following: NextHour) -> dict[str, Skill]:
    """Return each feature's t; ``frame`` has the rows of ``following``."""
    minute, session = following.minute, following.session
    count = np.bincount(minute)
    mean_square = np.bincount(minute, following.change**2) / np.maximum(count, 1)
    change = following.change / np.maximum(np.sqrt(mean_square), 1.0)[minute]
    hourly = minute % HOUR == HOUR - 1
    size = _residual(np.abs(change[hourly]), minute[hourly])
    found = {}
    for name in feature_columns(frame):
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        signed = _t(_centred(values), change, session)
        absolute = _t(_residual(_centred(values[hourly]), minute[hourly]), size, session[hourly])
        found[name] = Skill(signed, absolute)
    return found


def check_placebo(found: Mapping[str, Skill]) -> list[Violation]:
    """Return a violation for each feature with an absolute t of 4 or more."""
    violations = []
    for name, skill in found.items():
        for kind, t in (("change", skill.signed), ("absolute change", skill.absolute)):
            if not abs(t) < LARGEST:
                expected = f"|t| below {LARGEST:g} against the next hour's {kind} of a market that nothing can predict"
                violations.append(Violation(CHECK, name, None, None, expected, f"t = {t:.1f}", REMEDY))
    return violations


def _centred(values: Floats) -> Floats:
    """Return the values clipped to their outer quantiles, minus their mean; 0 where there is no value."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.size)
    low, high = np.percentile(values[finite], _QUANTILES)
    clipped = np.clip(values, low, high)
    return np.where(finite, clipped - clipped[finite].mean(), 0.0)


def _residual(values: Floats, minute: Ints) -> Floats:
    """Return the values minus their mean at the same minute."""
    mean = np.bincount(minute, values) / np.maximum(np.bincount(minute), 1)
    return np.asarray(values - mean[minute], np.float64)


def _t(feature: Floats, change: Floats, session: Ints) -> float:
    """Return the t of the sum over sessions of feature times change; 0 without variation."""
    sums = np.bincount(session, feature * change)
    noise = float(np.sqrt((sums**2).sum()))
    scale = float(np.sqrt((feature**2).sum() * (change**2).sum()))
    return float(sums.sum()) / noise if noise > 1e-9 * scale else 0.0
