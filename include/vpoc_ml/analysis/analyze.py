"""The complete analysis of a run's features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.analysis.clusters import cluster, spearman
from vpoc_ml.analysis.distribution import describe, drift, extremes, scaler_effects, target_distributions
from vpoc_ml.analysis.skill import MODELS, ablation, critical_t, skills
from vpoc_ml.analysis.train_validation_view import SPLITS, open_train_validation_view
from vpoc_ml.artifacts.feature_analysis import FeatureAnalysis
from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.features.registry import ALL_FEATURES


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
    clip, features = config.model.guard_clip, {}
    for name in view.features:
        values, known = view.column(name), ALL_FEATURES.get(name)
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
    return ALL_FEATURES[name].family if name in ALL_FEATURES else "other"
