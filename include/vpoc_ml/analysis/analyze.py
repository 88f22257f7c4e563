"""The complete analysis of a run's features, and the clusters of those that are alike (Spearman correlation)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from vpoc_ml.analysis.distribution import describe, drift, extremes, scaler_effects, target_distributions
from vpoc_ml.analysis.skill import MODELS, ablation, critical_t, skills
from vpoc_ml.analysis.train_validation_view import SPLITS, TrainValidationView, open_train_validation_view
from vpoc_ml.artifacts.feature_analysis import FeatureAnalysis
from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.evaluation.forecasts import Floats
from vpoc_ml.features.registry import known_features

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


def analyze(run_dir: Path, config: RunConfig) -> FeatureAnalysis:
    """Analyse the features of the training set in ``run_dir`` without reading its test rows.

    Raises:
        MissingInputError: the run has no training set.
        ArtifactError: the training set does not match its statistics.
        InsufficientSessionsError: fewer than three sessions in training or validation.
    """
    view = open_train_validation_view(run_dir)
    clusters = cluster(view.features, spearman(view))
    families = by_family(view.features)
    groups = clusters_beside_families(clusters, families)
    skill = skills(view, config.evaluation)
    clip, features, registry = config.model.guard_clip, {}, known_features()
    for name in view.features:
        values, known = view.column(name), registry.get(name)
        train = values[view.mask("train")]
        after, robust = view.guarded(name, train, clip), fit_robust_scaling(train)
        features[name] = {
            "family": _family(name),
            "unit": known.unit if known else "",
            "formula": known.formula if known else "",
            "median": robust.median,
            "scale": robust.scale,
            "before": describe(train),
            "after": describe(after),
            "extremes": extremes(train, robust.median, robust.scale),
            "clipped": float((np.abs(after) >= clip).mean()),
            "drift": drift(values, view.contract, view.contracts, robust.scale),
            "skill": skill[name],
        }
    parts = {split: view.keys.filter(pl.col("split") == split) for split in SPLITS}
    returns = parts["train"]["ret"].to_numpy()
    result = _null_nonfinite(
        {
            "about": {
                "rows": {split: part.height for split, part in parts.items()},
                "sessions": {split: part["session"].n_unique() for split, part in parts.items()},
                "first": str(view.keys["session"].min()),
                "last": str(view.keys["session"].max()),
                "contracts": view.contracts,
                "horizon": str(config.dataset.horizon),
                "guard_clip": config.model.guard_clip,
                "zero_return_share": float((returns[np.isfinite(returns)] == 0).mean()),
                "confidence": config.evaluation.confidence,
                "bootstrap_samples": config.evaluation.bootstrap_samples,
                "critical_t": critical_t(
                    config.evaluation.confidence, len(view.features), view.labelled_rows("validation").sessions
                ),
                "test_rows_read": 0,
            },
            "features": features,
            "clusters": clusters,
            "ablation": [ablation(view, config, families, groups, model) for model in MODELS],
            "targets": target_distributions(view, config.dataset),
            "scalers": scaler_effects(view, config.dataset),
        }
    )
    return FeatureAnalysis.model_validate(result)


def _null_nonfinite(value: Any) -> Any:
    """Return ``value`` with None for every NaN and infinity, which strict JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _null_nonfinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_null_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def by_family(features: Sequence[str]) -> dict[str, list[str]]:
    """Return the features of each family, both in the order of ``features``."""
    families: dict[str, list[str]] = {}
    for name in features:
        families.setdefault(_family(name), []).append(name)
    return families


def clusters_beside_families(clusters: Mapping[str, Any], families: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the clusters of several features that differ from every family, named by their first feature."""
    known = [set(members) for members in families.values()]
    return {
        f"{group['members'][0]} and {len(group['members']) - 1} alike": group["members"]
        for group in clusters["groups"]
        if len(group["members"]) > 1 and set(group["members"]) not in known
    }


def _family(name: str) -> str:
    known = known_features().get(name)
    return known.family if known else "other"
