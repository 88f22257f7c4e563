"""From guarded features to scores: the networks of each group, trees, and the weights that mix them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vpoc_ml.dataset.targets import Target
from vpoc_ml.models.ensemble import Ensemble
from vpoc_ml.models.feature_groups import ALL
from vpoc_ml.models.trees import Trees

Floats = npt.NDArray[np.float64]
TREES = "lightgbm"
PRIOR = 0.5


@dataclass(frozen=True)
class Forecaster:
    """What turns guarded rows into scores, in training and in scoring alike.

    A part is one group of networks, or the trees; ``weights`` [parts], not negative and of sum 1, mix their
    scores. Networks of one group differ by their seeds only, so they count alike. The trees predict ranks
    whatever the networks' ``target`` is.
    """

    body: nn.Module
    target: Target | None = None
    trees: Trees | None = None
    weights: Floats | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts: groups, then the trees."""
        groups = self.body.names if isinstance(self.body, Ensemble) else (ALL,)
        return groups if self.trees is None else (*groups, TREES)

    def scores(self, guarded: Tensor) -> Floats:
        """Return the score of each row [rows], in rank units, for guarded features [rows, features] on the CPU."""
        parts = self.parts(guarded)
        return parts[0] if len(parts) == 1 else mix(parts, self.weights if self.weights is not None else even(parts))

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
        return parts if self.trees is None else np.vstack((parts, self.trees.predict(guarded.numpy())))

    def _score(self, outputs: Floats) -> Floats:
        return outputs if self.target is None else self.target.score(outputs)


def mix(parts: Floats, weights: Floats) -> Floats:
    """Return the weighted sum of parts [parts, rows]: part by part, so that a row's sum does not depend on the others.

    A product of matrices would: its order of adding changes with the number of rows.
    """
    mixed = np.zeros(parts.shape[1])
    for part, weight in zip(parts, weights, strict=True):
        mixed += weight * part
    return mixed


def even(parts: Sequence[object] | Floats) -> Floats:
    """Return equal weights."""
    return np.full(len(parts), 1 / len(parts))


def best_weights(parts: Floats, ranks: Floats) -> Floats:
    """Return the weights, not negative and of sum 1, of the regression of the ranks on the parts.

    Args:
        parts: scores [parts, rows].
        ranks: rank targets [rows]; rows whose target is NaN do not count.

    Non-negative least squares (Lawson & Hanson) of the deviations from the means, then divided by their sum.
    The sum is not held at 1 while fitting: a Huber loss of ranks, which lie on both sides and seldom near the
    middle, gives scores that spread wider than the mean rank does, each part by its own factor. Under a fixed
    sum the part of the least spread would win for its spread.

    Few rows, or a weak edge, cannot tell parts apart, so each weight has a normal prior: as if all counted
    alike, with half of that weight as standard deviation. Where the mean of the parts tells nothing, they do.
    """
    from scipy.optimize import nnls

    known = np.isfinite(ranks)
    told, wanted = parts[:, known], ranks[known] - ranks[known].mean()
    told = (told - told.mean(axis=1, keepdims=True)).T
    mean = told.mean(axis=1)
    alike = float(mean @ wanted) / max(float(mean @ mean), np.finfo(np.float64).tiny) / len(parts)
    if alike <= 0 or not np.isfinite(alike):
        return even(parts)
    pull = float(wanted.std()) / (PRIOR * alike)
    rows = np.vstack((told, pull * np.eye(len(parts))))
    weights, _ = nnls(rows, np.append(wanted, np.full(len(parts), pull * alike)))
    total = weights.sum()
    return np.asarray(weights / total, dtype=np.float64) if total > 0 else even(parts)
