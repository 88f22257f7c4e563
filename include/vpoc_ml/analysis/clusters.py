"""Spearman correlation and hierarchical clusters of the features."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from vpoc_ml.analysis.train_validation_view import TrainValidationView
from vpoc_ml.evaluation.forecasts import Floats

ROWS = 50_000
SAME = 0.7


def spearman(view: TrainValidationView, rows: int = ROWS) -> Floats:
    """Return Spearman's rank correlation of every pair of features, (f, f), on at most ``rows`` training rows.

    The rows are evenly spaced over the training split. Ties get average ranks, a non-finite value gets the middle rank,
    and a constant feature has correlation 0 with every other.
    """
    train = np.flatnonzero(view.mask("train"))
    chosen = train[:: -(-train.size // rows)]
    ranks = np.stack([_standard_ranks(view.column(name)[chosen]) for name in view.features], axis=1)
    rho = np.clip(ranks.T.astype(np.float64) @ ranks / chosen.size, -1.0, 1.0)
    np.fill_diagonal(rho, 1.0)
    return np.asarray((rho + rho.T) / 2, np.float64)


def cluster(names: list[str], rho: Floats, same: float = SAME) -> dict[str, Any]:
    """Group features by average linkage on the distance 1 - |rho|.

    Two groups merge while the mean |rho| between their members is at least ``same``.

    Returns:
        ``order``: names along the dendrogram, with similar features side by side; ``groups``: the members of each
        cluster in that order, and ``weakest``, the smallest |rho| between two of them (1 for a single feature);
        ``rho``: the matrix in ``order``, to four decimals.
    """
    if len(names) < 2:
        return {"same": same, "order": names, "groups": [{"members": names, "weakest": 1.0}], "rho": [[1.0]]}
    distance = 1.0 - np.abs(rho)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    cluster_of, order = fcluster(tree, 1.0 - same, "distance"), leaves_list(tree)
    labels = list(dict.fromkeys(cluster_of[order].tolist()))
    members = [[int(at) for at in order if cluster_of[at] == label] for label in labels]
    return {
        "same": same,
        "order": [names[at] for at in order],
        "groups": [
            {"members": [names[at] for at in group], "weakest": float(np.abs(rho[np.ix_(group, group)]).min())}
            for group in members
        ],
        "rho": np.round(rho[np.ix_(order, order)], 4).tolist(),
    }


def _standard_ranks(values: Floats) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return ranks with mean 0 and variance 1; all 0 for a constant."""
    finite = np.isfinite(values)
    ranks = np.zeros(values.size)
    if finite.any():
        ranks[finite] = rankdata(values[finite])
        ranks[finite] -= ranks[finite].mean()
    spread = np.sqrt(np.square(ranks).mean())
    return (ranks / spread if spread > 0 else ranks).astype(np.float32)
