"""The rules that the modes of a synthetic market plant: the drift of minute t+1 from what is known at the close of t.

The drift is in standard deviations of the minute's move and moves its close, not its open: a forecast earns it from the
open of t+1. It is the rule's value of features of the front contract, as ``features.registry`` defines them:

* ``signal``: STRENGTH tanh(close_change_pct / CHANGE_SCALE) tanh(SLOPE (ln vol_ratio_30 - THRESHOLD)), momentum after
  unusual volume, reversal after little. THRESHOLD makes the two cancel in every linear rule.
* ``linear``: -LINEAR bb_z_20, weak reversal. Rank IC of the score against the return of one minute: close to close
  0.039, from the next open 0.038 (0.034 to 0.044).
* ``overlap``: -OVERLAP mom_60m, reversal over hours. Rank IC against the return of 60 minutes 0.071 (0.043 to 0.116),
  close to close and from the next open, and 0.021 against the return of one minute.
* ``drifting``: the rule of ``linear``, with the opposite sign from session ``switch`` of the market on.
* ``martingale``: none.

Rank IC is Spearman's correlation over all rows, as in ``evaluation.metrics``, with the feature times the rule's sign as
the forecast: mean, and smallest to largest, of 10 markets (seeds 0 to 9) of 100 sessions from 2022-01-03. The mean of
correlations within sessions is larger, because reversal has a positive one in a session without a signal, too: in
``martingale`` -mom_60m has 0.041 against the return of 60 minutes, and -0.008 (standard error 0.006) over all rows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from typing import Literal, get_args

from vpoc_ml.errors import InvalidValueError

Mode = Literal["signal", "martingale", "linear", "overlap", "drifting"]
MODES: tuple[Mode, ...] = get_args(Mode)

STRENGTH = 0.20
CHANGE_SCALE = 0.008
SLOPE = 3.0
THRESHOLD = 0.02
LINEAR = 0.032
LINEAR_BARS = 20
OVERLAP = 0.0012
OVERLAP_BARS = 60
YEAR = 252
"""Sessions of a year."""

Rule = Callable[[deque[int], int, float], float]
"""Drift from the last closes of the market in ticks, newest last, the front contract's price minus them in ticks, and
the rule's factor of the bar: that of volume in ``signal``, the sign in the linear ones, 0 where nothing is planted."""


@dataclass(frozen=True)
class Planted:
    """What is planted into a market.

    Args:
        mode: the rule.
        switch: first session of the market, counted from 0, in which the sign of ``drifting`` is reversed.
        bounce: bid-ask bounce; 0 for none. The market's path becomes the bid, the ask is a tick above it, and each
            print (close of a minute, open of the next, its close, ...) is on the other side than the print before it
            with this probability; 0.5: the sides are independent. The rules and the truth read the path, which is what
            the prints are without bounce.

    Raises:
        InvalidValueError: an unknown mode, a switch below 0, a bounce outside 0..1.
    """

    mode: Mode = "signal"
    switch: int = YEAR
    bounce: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.mode not in MODES:
            raise InvalidValueError("mode", self.mode, f"one of {', '.join(MODES)}")
        if self.switch < 0:
            raise InvalidValueError("switch", self.switch, "0 or more sessions")
        if not 0 <= self.bounce <= 1:
            raise InvalidValueError("bounce", self.bounce, "a probability, 0 to 1")

    @property
    def rule(self) -> Rule:
        """The rule of the mode."""
        return {"linear": linear_drift, "drifting": linear_drift, "overlap": overlap_drift}.get(self.mode, signal_drift)

    @property
    def closes(self) -> int:
        """Number of closes that the rule reads."""
        return {"linear": LINEAR_BARS, "drifting": LINEAR_BARS, "overlap": OVERLAP_BARS + 1}.get(self.mode, 2)

    def sign(self, session: int) -> float:
        """Return the sign of a linear rule in a session of the market, counted from 0; 0 for ``martingale``."""
        if self.mode == "martingale":
            return 0.0
        return -1.0 if self.mode == "drifting" and session >= self.switch else 1.0


def signal_drift(closes: deque[int], offset: int, factor: float) -> float:
    """Return the drift of ``signal`` after the last two closes; ``factor`` is that of volume."""
    before, close = closes
    change = 100.0 * (close - before) / (before + offset)
    return STRENGTH * math.tanh(change / CHANGE_SCALE) * factor


def linear_drift(closes: deque[int], offset: int, factor: float) -> float:
    """Return the drift of ``linear`` after the last 20 closes; 0 where they are equal or not yet as many."""
    n, total = LINEAR_BARS, sum(closes)
    squares = n * sum(map(mul, closes, closes)) - total * total
    if len(closes) < n or squares == 0:
        return 0.0
    score = (n * closes[-1] - total) / n / math.sqrt(squares / (n * (n - 1)))
    return -LINEAR * factor * score


def overlap_drift(closes: deque[int], offset: int, factor: float) -> float:
    """Return the drift of ``overlap`` after the last 61 closes; 0 while they are fewer."""
    if len(closes) <= OVERLAP_BARS:
        return 0.0
    return -OVERLAP * factor * 1e4 * math.log((closes[-1] + offset) / (closes[0] + offset))
