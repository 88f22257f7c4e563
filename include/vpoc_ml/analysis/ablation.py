"""Ablation: the gain from a group of features beside all others, and the skill of a family alone.

Every model is fitted on training rows and evaluated on validation rows. Nothing is chosen on the validation rows: the
penalty of the ridge and the size of the trees are constants. A gain is the result of the full model minus that of the
model without the group, on the same rows and resampled sessions. Above zero the group helps. The intervals cover the
choice of the validation sessions, not that of the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vpoc_ml.analysis.skill import critical_t, draws, t_value
from vpoc_ml.analysis.train_validation_view import TrainValidationView
from vpoc_ml.config import RunConfig
from vpoc_ml.evaluation.forecasts import Floats, Forecast
from vpoc_ml.evaluation.metrics import SessionSums, compare, correlation_gain, describe, reduce

Model = Literal["ridge", "trees"]
Predict = Callable[[Floats], Floats]
"""Features of some rows (rows, f) -> predicted rank (rows,)."""

MODELS: tuple[Model, ...] = ("ridge", "trees")
FULL = "all features"
RIDGE_PENALTY = 1e-2
TREE_ROWS = 40_000
TREES = {
    "objective": "regression",
    "learning_rate": 0.15,
    "num_leaves": 8,
    "min_data_in_leaf": 200,
    "max_bin": 31,
    "bin_construct_sample_cnt": 8_000,
    "lambda_l2": 10.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 7,
    "verbosity": -1,
}
ROUNDS = 40


def variants(
    features: Sequence[str], families: Mapping[str, Sequence[str]], clusters: Mapping[str, Sequence[str]]
) -> dict[str, list[int]]:
    """Return the columns of every fitted model: all, without each group, and each family alone.

    A family of all features has neither a model without it nor one of its own.
    """
    found = {FULL: list(range(len(features)))}
    for name, members in {**families, **clusters}.items():
        inside = [at for at, feature in enumerate(features) if feature in members]
        outside = [at for at, feature in enumerate(features) if feature not in members]
        if inside and outside:
            found[f"without {name}"] = outside
            if name in families:
                found[f"only {name}"] = inside
    return found


def ablation(
    view: TrainValidationView,
    config: RunConfig,
    families: Mapping[str, Sequence[str]],
    clusters: Mapping[str, Sequence[str]],
    model: Model,
) -> dict[str, Any]:
    """Fit and evaluate every variant of one model.

    Args:
        view: training and validation rows.
        config: ``model.guard_clip`` and ``evaluation`` are read.
        families: features of each family, by its name.
        clusters: features of each cluster, by a name that no family has.
        model: ``ridge`` on all labelled training rows, or ``trees`` (gradient boosting) on an even sample.

    Returns:
        ``model``; ``rows``, the number of training rows; ``full``, accuracy and rank IC with all features; and
        ``groups``. Each group has its ``features``, the paired ``gain`` of the full model over the one without it,
        ``stands`` (the gain in rank IC is significant after the Bonferroni correction for the number of groups), and
        the metrics of a family ``alone`` (None for a cluster). A metric is value, low, high, or None if undefined.
    """
    columns = variants(view.features, families, clusters)
    clip = config.model.guard_clip
    fitted, rows = (fit_ridge if model == "ridge" else fit_trees)(view, columns, clip)
    labelled_rows = view.labelled_rows("validation")
    resamples = draws(labelled_rows, config.evaluation)
    parts: dict[str, list[Floats]] = {name: [] for name in fitted}
    for block in view.blocks("validation", clip):  # the features are read once, for all models
        for name, predict in fitted.items():
            parts[name].append(predict(block))
    sums: dict[str, SessionSums] = {}
    for name in fitted:
        forecast = Forecast(name, np.concatenate(parts.pop(name)), view.target.zero_score)
        sums[name] = reduce(forecast, labelled_rows, config.evaluation.huber_delta)
    tested = {name: members for name, members in {**families, **clusters}.items() if f"without {name}" in sums}
    bar = critical_t(config.evaluation.confidence, len(tested), labelled_rows.sessions)
    full, groups = sums[FULL], {}
    for name, members in tested.items():
        without, t = sums[f"without {name}"], None
        if full.rank_ic is not None and without.rank_ic is not None:
            t = t_value(np.hstack([full.rank_ic, without.rank_ic]), resamples, correlation_gain)
        groups[name] = {
            "features": list(members),
            "gain": compare(full, without, resamples).model_dump(),
            "stands": t is not None and abs(t) > bar,
            "alone": describe(sums[f"only {name}"], resamples).model_dump() if f"only {name}" in sums else None,
        }
    return {"model": model, "rows": rows, "full": describe(full, resamples).model_dump(), "groups": groups}


def fit_ridge(
    view: TrainValidationView, columns: Mapping[str, list[int]], clip: float
) -> tuple[dict[str, Predict], int]:
    """Fit every variant from one matrix of centred cross products of features and rank, (f + 1, f + 1).

    As in the ridge baseline, the features are scaled and the penalty is a share of the number of rows.
    """
    ranks = _ranks(view)
    width, rows = len(view.features) + 1, 0
    total, products = np.zeros(width), np.zeros((width, width))
    for block in view.blocks("train", clip):
        joined = np.column_stack((block, ranks[rows : rows + len(block)]))
        total, products, rows = total + joined.sum(axis=0), products + joined.T @ joined, rows + len(block)
    mean = total / rows
    covariance = products / rows - np.outer(mean, mean)

    def solve(chosen: list[int]) -> Predict:
        penalised = covariance[np.ix_(chosen, chosen)] + RIDGE_PENALTY * np.eye(len(chosen))
        weights = np.linalg.solve(penalised, covariance[chosen, -1])
        offset = float(mean[-1] - weights @ mean[chosen])
        return lambda block: np.asarray(block[:, chosen] @ weights + offset, np.float64)

    return {name: solve(chosen) for name, chosen in columns.items()}, rows


def fit_trees(
    view: TrainValidationView, columns: Mapping[str, list[int]], clip: float
) -> tuple[dict[str, Predict], int]:
    """Fit every variant on an evenly spaced sample of the training rows."""
    import lightgbm

    ranks = _ranks(view)
    every = -(-ranks.size // TREE_ROWS)
    x = np.concatenate([block.astype(np.float32) for block in view.blocks("train", clip, every=every)])
    y = ranks[::every]

    def fit(chosen: list[int]) -> Predict:
        data = lightgbm.Dataset(x[:, chosen], y, params=TREES)
        booster = lightgbm.train(TREES, data, ROUNDS)
        return lambda block: np.asarray(booster.predict(block[:, chosen], num_threads=1), np.float64)

    return {name: fit(chosen) for name, chosen in columns.items()}, y.size


def _ranks(view: TrainValidationView) -> Floats:
    """Return the rank of the label of each labelled training row."""
    return view.target.apply(view.keys["ret"].to_numpy()[view.mask("train", labelled=True)])
