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
from vpoc_ml.models.groups import ALL
from vpoc_ml.models.trees import Trees

Floats = npt.NDArray[np.float64]
TREES = "lightgbm"


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
    """Return the weights, not negative and of sum 1, whose mix has the least squared error.

    Args:
        parts: scores [parts, rows].
        ranks: rank targets [rows]; rows whose target is NaN do not count.

    With weights of sum 1 the error of the mix is the mix of the errors, w'Gw of their products G. Any
    non-negative w with w'Gw + (1 - sum w)^2 least has the right direction, because a direction's best length
    leaves a value that rises with its w'Gw at sum 1 alone. So Lawson & Hanson's NNLS solves it exactly.
    """
    from scipy.optimize import nnls

    known = np.isfinite(ranks)
    errors = (ranks - parts)[:, known]
    products = errors @ errors.T / max(int(known.sum()), 1)
    values, vectors = np.linalg.eigh(products)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    weights, _ = nnls(np.vstack((root, np.ones(len(parts)))), np.append(np.zeros(len(parts)), 1.0))
    total = weights.sum()
    return even(parts) if total <= 0 else np.asarray(weights / total, dtype=np.float64)
