"""Weights and slope of a stack of learners, fitted on predictions that were made out of sample.

The weights start at the best simple learner and move to the weights that fit best only as far as held-out sessions
show a gain. The slope falls where the scores are wider than what they explain: the Huber loss is then no worse than the
constant's beyond noise. It follows the newest month, because a signal can change its sign; weights need more sessions.
All errors are sandwich errors over sessions, because rows of one session are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.model_card import ModelPart, Stack
from vpoc_ml.config import ModelConfig
from vpoc_ml.dataset.targets.base import MIDDLE

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ALL, RIDGE, TREES = "all", "ridge", "lightgbm"
"""Names of parts: the networks of all features, ridge, the trees."""
SIMPLE = (RIDGE, TREES)
MAX_SLOPE = 1.5
"""Largest slope. A learner of mean ranks needs about this much for the median rank, which a small delta estimates."""
ENOUGH_SESSIONS = 20
"""Sessions that can compare networks with simple learners: predictions of earlier sessions, or validation sessions."""
PRIOR_SLOPE = 0.5
"""Mean and standard deviation of the slope before there is evidence: most learners' scores are somewhat too wide."""
HALF_LIFE = 20
"""Sessions, about a month, after which a session counts half for the slope; more notice a changed sign later."""
GROUPS = 5
"""Groups of consecutive sessions. Weights are fitted on all but one and measured on that one."""
TIE = 1e-6
"""Penalty, as a share of the mean variance of the scores, that divides a weight evenly among equal learners."""
FLAT = 1e-7
"""Standard deviation below which a learner's scores are a constant and have no weight."""


def is_stack(config: ModelConfig) -> bool:
    """Return whether a model is a stack: the net with other learners, own ones included."""
    return len(config.learners) + len(config.own) > 1


@dataclass(frozen=True)
class StackRows:
    """Rows that none of the learners was fitted on, in order of time.

    Sums by session are computed once: a stack of other sessions of the same rows does not add up the rows again.

    Attributes:
        names: learners.
        scores: distances of their scores from rank 0.5 [learners, rows].
        target: distances of the rank targets from 0.5 [rows].
        first: row at which each session begins, and the end of the last one [sessions + 1].
        products: by session, sums of the products of (1, scores, target) with each other, [sessions, learners + 2,
            learners + 2].
    """

    names: tuple[str, ...]
    scores: Floats
    target: Floats
    first: Ints
    products: Floats

    @classmethod
    def of(cls, scores: Floats, y: Floats, session: Ints, names: Sequence[str]) -> StackRows:
        """Read rows.

        Args:
            scores: [learners, rows] in rank units.
            y: rank targets [rows]; rows with a NaN in ``y`` or in a score do not count.
            session: number of the session of each row [rows], increasing with time.
            names: learners, in the order of ``scores``.
        """
        known = np.isfinite(y) & np.isfinite(scores).all(axis=0)
        centred, target = scores[:, known] - MIDDLE, y[known] - MIDDLE
        begin = np.unique(session[known], return_index=True)[1]
        columns = np.vstack((np.ones_like(target), centred, target))
        products = np.empty((len(begin), len(columns), len(columns)))
        for k, column in enumerate(columns):
            for other in range(k + 1):
                sums = np.add.reduceat(column * columns[other], begin) if len(begin) else 0.0
                products[:, k, other] = products[:, other, k] = sums
        return cls(tuple(names), centred, target, np.append(begin, len(target)), products)

    @property
    def sessions(self) -> int:
        """Number of sessions."""
        return len(self.products)

    def between(self, first: int, end: int) -> StackRows:
        """Return the sessions from number ``first`` up to, not including, number ``end``."""
        rows = slice(self.first[first], self.first[end])
        begin = self.first[first : end + 1] - self.first[first]
        return StackRows(self.names, self.scores[:, rows], self.target[rows], begin, self.products[first:end])

    def moments(self) -> tuple[Floats, Floats]:
        """Return, by session, the products of the scores' deviations from their mean with each other and the target's.

        Returns:
            [sessions, learners, learners] and [sessions, learners]. A learner whose scores do not vary has zeros.
        """
        total = self.products.sum(axis=0)
        mean = total[0, 1:] / total[0, 0]
        deviation = np.hstack((-mean[:, None], np.eye(len(mean))))
        variance = np.diagonal(deviation @ total @ deviation.T) / total[0, 0]
        deviation[:-1] *= (variance[:-1] > FLAT**2)[:, None]
        central = deviation @ self.products @ deviation.T
        return central[:, :-1, :-1], central[:, :-1, -1]


def fit_stack(rows: StackRows, delta: float = 0.1, *, validation: bool = False) -> Stack:
    """Fit weights and slope on rows that none of the learners was fitted on.

    Weights: b is the non-negative least squares fit (Lawson & Hanson) of the deviations of ``y`` from their mean, s the
    best simple learner (ridge or LightGBM; any other one if both are missing) with its own slope. Both are fitted on
    four of five groups of sessions. On the fifth, what s leaves unexplained is regressed on the difference of the two
    predictions. With the coefficient a and its error e over sessions, the result is s + a (1 - (e / a)^2)+ (b - s),
    divided by its sum. The factor is the positive part of James and Stein's estimator; the step is at most 1.

    Slope: b is the Huber regression of ``y`` - 0.5 on the held-out stacked score - 0.5 through the origin, where a
    session counts half of one that is 20 sessions younger, and e its error. The slope is the mean of its posterior
    distribution for a normal prior with mean and standard deviation 0.5, (b / e^2 + 0.5 / 0.5^2) / (1 / e^2 + 1 /
    0.5^2), limited to [0, 1.5]. With scores that are too wide, or a signal that has changed its sign, it falls to 0.
    The origin is 0.5 and not the rank of a zero return: a slope of 0 is then the constant, also where prices rise more
    often than they fall.

    Args:
        rows: scores and targets.
        delta: of the Huber loss, in rank units.
        validation: the rows have chosen epochs and penalties of the learners, which look better there. All sessions
            then count alike for the slope, and it is b (1 - (e / b)^2)+: a weak b is no evidence.

    Returns:
        The stack. With fewer than five sessions it is the constant, with all weight on a simple learner. A common
        factor of a learner's deviations from 0.5 changes its weight, not the stack's score.
    """
    names, sessions = rows.names, rows.sessions
    simple = _simple_candidates(names)
    constant = Stack(parts=_parts(names, np.eye(len(names))[simple[0]]), simple=names[simple[0]], sessions=sessions)
    if sessions < GROUPS:
        return constant
    gram, cross = rows.moments()
    group = np.arange(sessions) * GROUPS // sessions
    fits = [
        (_best_simple(gram[group != g], cross[group != g], simple), _best(gram[group != g], cross[group != g]))
        for g in range(GROUPS)
    ]
    alone, together = (np.stack(each)[group] for each in zip(*fits, strict=True))
    shrinkage = min(max(_shrunk(*_step(alone, together, gram, cross)), 0.0), 1.0)
    held_weights = np.stack([_weights(*pair, shrinkage, simple[0]) for pair in zip(alone, together, strict=True)])
    count = np.diff(rows.first)
    held_score = sum(
        np.repeat(weight, count) * score for weight, score in zip(held_weights.T, rows.scores, strict=True)
    )
    age = np.arange(sessions)[::-1]
    counted = np.ones(sessions) if validation else 0.5 ** (age / HALF_LIFE)
    found, error = _huber_slope(held_score, rows.target, rows.first, counted, delta)
    slope = _shrunk(found, error) if validation else _posterior_slope(found, error)
    start = _best_simple(gram, cross, simple)
    return constant.model_copy(
        update={
            "parts": _parts(names, _weights(start, _best(gram, cross), shrinkage, simple[0])),
            "slope": min(max(slope, 0.0), MAX_SLOPE),
            "slope_error": error,
            "simple": names[int(np.argmax(start)) if start.any() else simple[0]],
            "shrinkage": shrinkage,
        }
    )


def apply_stack(stack: Stack, scores: Floats) -> Floats:
    """Return the score of the stack [rows] for the scores of its learners [learners, rows].

    The score of a row does not depend on other rows.
    """
    weights = np.array([part.weight for part in stack.parts])
    return mix(scores, weights, stack.slope)


def mix(parts: Floats, weights: Floats, slope: float | None = None) -> Floats:
    """Return the weighted sum of parts [parts, rows], added part by part; ``slope`` multiplies its distance from 0.5.

    The sum of a row then does not depend on other rows. In a matrix product the order of the additions depends on the
    number of rows.
    """
    mixed = np.zeros(parts.shape[1])
    for part, weight in zip(parts, weights, strict=True):
        mixed += weight * part
    return mixed if slope is None else MIDDLE + slope * (mixed - MIDDLE)


def _simple_candidates(names: Sequence[str]) -> list[int]:
    """Return the indices of ridge and LightGBM; of all learners if both are missing."""
    return [names.index(name) for name in SIMPLE if name in names] or list(range(len(names)))


def _best_simple(gram: Floats, cross: Floats, candidates: list[int]) -> Floats:
    """Return the slope of the candidate that explains most, zeros elsewhere [learners]; all 0 if none has skill."""
    variance, covariance = np.diagonal(gram.sum(axis=0)), cross.sum(axis=0)
    slopes = np.divide(covariance.clip(0.0), variance, out=np.zeros_like(variance), where=variance > 0)
    best = max(candidates, key=lambda k: slopes[k] * covariance[k])
    return np.where(np.arange(len(slopes)) == best, slopes, 0.0)


def _best(gram: Floats, cross: Floats) -> Floats:
    """Return the non-negative least squares coefficients [learners] from the sums by session."""
    from scipy.optimize import nnls

    total = gram.sum(axis=0)
    size = float(np.trace(total)) / len(total)
    if size == 0.0:
        return np.zeros(len(total))
    root = np.linalg.cholesky(total + TIE * size * np.eye(len(total))).T
    return np.asarray(nnls(root, np.linalg.solve(root.T, cross.sum(axis=0)))[0], dtype=np.float64)


def _step(alone: Floats, together: Floats, gram: Floats, cross: Floats) -> tuple[float, float]:
    """Return how far to go from ``alone`` to ``together`` [sessions, learners], and the error over sessions.

    It is the regression of what ``alone`` leaves unexplained on the difference of the two predictions.
    """
    move = together - alone
    left = cross - np.einsum("skl,sl->sk", gram, alone)
    covariance = np.einsum("sk,sk->s", move, left)
    variance = np.einsum("sk,skl,sl->s", move, gram, move)
    if variance.sum() <= 0.0:
        return 0.0, 0.0
    step = float(covariance.sum() / variance.sum())
    return step, _sandwich(covariance - step * variance, float(variance.sum()))


def _sandwich(scores: Floats, curvature: float) -> float:
    """Return the standard error of an estimate from the derivatives of its loss by session."""
    return math.sqrt(float(scores @ scores) * len(scores) / (len(scores) - 1)) / curvature


def _shrunk(estimate: float, error: float) -> float:
    """Return the estimate times (1 - (error / estimate)^2)+."""
    return estimate * max(0.0, 1.0 - (error / estimate) ** 2) if estimate else 0.0


def _weights(start: Floats, best: Floats, shrinkage: float, fallback: int) -> Floats:
    """Return weights with sum 1 between two sets of coefficients; without any, all weight is on ``fallback``."""
    coefficients = start + shrinkage * (best - start)
    total = float(coefficients.sum())
    return coefficients / total if total > 0 else np.eye(len(start))[fallback]


def _posterior_slope(estimate: float, error: float) -> float:
    """Return the mean of the slope given its estimate, whose error is normal, as is the prior."""
    evidence = PRIOR_SLOPE**2 / (PRIOR_SLOPE**2 + error**2)
    return PRIOR_SLOPE + evidence * (estimate - PRIOR_SLOPE)


def _huber_slope(x: Floats, target: Floats, first: Ints, counted: Floats, delta: float) -> tuple[float, float]:
    """Return the slope through the origin with the smallest Huber loss, and its error over sessions.

    The slope is 1 without an error where the scores do not vary or no row is within ``delta``.

    Args:
        x: scores [rows].
        target: what they predict [rows].
        first: row at which each session begins, and the end of the last one [sessions + 1].
        counted: what a row of each session counts [sessions].
        delta: of the Huber loss.
    """
    from scipy.optimize import brentq

    weighted = np.repeat(counted, np.diff(first)) * x

    def falling(slope: float) -> float:  # minus the derivative of the loss
        return float(weighted @ (target - slope * x).clip(-delta, delta))

    if float(x @ x) <= FLAT**2 * len(x):
        return 1.0, 0.0
    bound = 1.0
    while falling(bound) > 0 or falling(-bound) < 0:
        bound *= 2.0
    slope = float(brentq(falling, -bound, bound, xtol=1e-9))
    error = target - slope * x
    curvature = float((weighted * x)[np.abs(error) <= delta].sum())
    if curvature == 0.0:  # a flat loss
        return 1.0, 0.0
    daily = np.add.reduceat(weighted * error.clip(-delta, delta), first[:-1])
    return slope, _sandwich(daily, curvature)


def _parts(names: Sequence[str], weights: Floats) -> tuple[ModelPart, ...]:
    return tuple(ModelPart(name=name, weight=float(weight)) for name, weight in zip(names, weights, strict=True))
