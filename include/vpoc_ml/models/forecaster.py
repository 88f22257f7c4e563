"""Scores from guarded features: the networks of each group, ridge, the trees, and the weights of their mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vpoc_ml.dataset.targets import Target
from vpoc_ml.models.ensemble import Ensemble
from vpoc_ml.models.own import OwnPart
from vpoc_ml.models.ridge import Ridge
from vpoc_ml.models.stacking import ALL, RIDGE, TREES, mix
from vpoc_ml.models.trees import Trees

Floats = npt.NDArray[np.float64]
PRIOR = 0.5


@dataclass(frozen=True)
class Forecaster:
    """Computes scores from guarded rows, in training and in scoring.

    A part is one group of networks, ridge, the trees, or a learner of a plugin. ``weights`` [parts], non-negative with
    sum 1, mix their scores. The networks of one group differ only by their seeds and have equal weights. Ridge, the
    trees and own learners always predict ranks, whatever the ``target`` of the networks. ``slope`` multiplies the mix's
    distance from rank 0.5.
    """

    body: nn.Module
    target: Target | None = None
    trees: Trees | None = None
    weights: Floats | None = None
    ridge: Ridge | None = None
    slope: float | None = None
    own: Mapping[str, OwnPart] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts: groups, then ridge, then the trees, then own learners."""
        groups = self.body.names if isinstance(self.body, Ensemble) else (ALL,)
        return (*groups, *([RIDGE] if self.ridge else []), *([TREES] if self.trees else []), *self.own)

    def scores(self, guarded: Tensor) -> Floats:
        """Return the score of each row [rows], in rank units, for guarded features [rows, features] on the CPU."""
        return self.mixed(self.parts(guarded))

    def mixed(self, parts: Floats) -> Floats:
        """Return the score [rows] of the scores of the parts [parts, rows]."""
        if len(parts) == 1:
            return np.asarray(parts[0])
        return mix(parts, self.weights if self.weights is not None else even(parts), self.slope)

    def parts(self, guarded: Tensor) -> Floats:
        """Return the score of each part [parts, rows]."""
        with torch.inference_mode():
            outputs = self.body(guarded).double().numpy()
        if isinstance(self.body, Ensemble):
            scored = np.stack([self._score(member) for member in outputs])
            starts = np.cumsum([0, *self.body.counts[:-1]])
            parts = np.add.reduceat(scored, starts, axis=0) / np.array(self.body.counts)[:, None]
        else:
            parts = self._score(outputs)[None]
        learners = (self.ridge, self.trees, *self.own.values())
        others = [other.predict(guarded.numpy()) for other in learners if other is not None]
        return np.vstack((parts, *others)) if others else parts

    def _score(self, outputs: Floats) -> Floats:
        return outputs if self.target is None else self.target.score(outputs)


def even(parts: Sequence[object] | Floats) -> Floats:
    """Return equal weights [parts]."""
    return np.full(len(parts), 1 / len(parts))


def best_weights(parts: Floats, ranks: Floats) -> Floats:
    """Return the weights, non-negative with sum 1, of the regression of the ranks on the parts.

    Args:
        parts: scores [parts, rows].
        ranks: rank targets [rows]; rows whose target is NaN do not count.

    The weights come from non-negative least squares (Lawson & Hanson) of the deviations from the means. Afterwards they
    are divided by their sum. The sum is not fixed during the fit: with a Huber loss of ranks, each part's scores have
    a wider spread than the mean rank, by a factor of its own. A fixed sum would favour the part with the smallest
    spread.

    A few rows, or a weak signal, cannot distinguish the parts. Each weight therefore has a normal prior at the equal
    weight, with half of it as standard deviation. The weights are equal if the mean of the parts has no relation to the
    ranks.
    """
    from scipy.optimize import nnls

    known = np.isfinite(ranks)
    scores, target = parts[:, known], ranks[known] - ranks[known].mean()
    scores = (scores - scores.mean(axis=1, keepdims=True)).T
    mean = scores.mean(axis=1)
    equal = float(mean @ target) / max(float(mean @ mean), np.finfo(np.float64).tiny) / len(parts)
    if equal <= 0 or not np.isfinite(equal):
        return even(parts)
    pull = float(target.std()) / (PRIOR * equal)
    rows = np.vstack((scores, pull * np.eye(len(parts))))
    weights, _ = nnls(rows, np.append(target, np.full(len(parts), pull * equal)))
    total = weights.sum()
    return np.asarray(weights / total, dtype=np.float64) if total > 0 else even(parts)
