"""Skill of single features and of groups: rank correlation with the next return, and ablation.

Ablation measures the gain from a group of features beside all others, and the skill of a family alone. Every model is
fitted on training rows and evaluated on validation rows. Nothing is chosen on the validation rows: the penalty of the
ridge and the size of the trees are constants. A gain is the result of the full model minus that of the model without
the group, on the same rows and resampled sessions. Above zero the group helps. The intervals cover the choice of the
validation sessions, not that of the training rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from vpoc_ml.analysis.train_validation_view import TrainValidationView
from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.config import EvaluationConfig, RunConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.evaluation.bootstrap import Resamples, Statistic, draw
from vpoc_ml.evaluation.forecasts import Floats, Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import SessionSums, compare, correlation, correlation_gain, describe, ratio, reduce


def skills(view: TrainValidationView, settings: EvaluationConfig) -> dict[str, dict[str, Any]]:
    """Return the single-feature skill of every feature, by name.

    ``train_ic`` and ``validation_ic`` are Spearman's correlation of the feature with the label's return, with the
    session-block bootstrap interval at ``settings.confidence``. ``t`` is the validation IC divided by its bootstrap
    standard error. ``accuracy`` is the share of correct directions on the validation rows of the rule "above its
    training median means up", reversed if the training IC is negative. The rule uses nothing from the validation rows.
    A non-finite value counts as the median. ``stands`` is true if t is significant after the Bonferroni correction for
    the number of features. Values are None if a feature does not vary.
    """
    labelled_rows = {split: view.labelled_rows(split) for split in ("train", "validation")}
    resamples = {split: draws(rows, settings) for split, rows in labelled_rows.items()}
    bar = critical_t(settings.confidence, len(view.features), labelled_rows["validation"].sessions)
    found = {}
    for name in view.features:
        values = view.column(name)
        middle = fit_robust_scaling(values[view.mask("train")]).median
        centred = np.where(np.isfinite(values), values - middle, 0.0)
        train, validation = (centred[view.mask(split, labelled=True)] for split in ("train", "validation"))
        train_ic = _ic(reduce(Forecast("feature", train, 0.0), labelled_rows["train"], 1.0), resamples["train"])
        direction = -1.0 if train_ic is not None and train_ic.value < 0 else 1.0
        sums = reduce(Forecast("feature", direction * validation, 0.0), labelled_rows["validation"], 1.0)
        ic = _ic(sums, resamples["validation"])
        if ic is not None and direction < 0:  # the IC of the feature itself
            ic = Interval(-ic.value, -ic.high, -ic.low)
        accuracy = resamples["validation"].interval(sums.accuracy, ratio)
        t = None if sums.rank_ic is None else t_value(sums.rank_ic, resamples["validation"], correlation)
        found[name] = {
            "train_ic": None if train_ic is None else asdict(train_ic),
            "validation_ic": None if ic is None else asdict(ic),
            "t": None if t is None else direction * t,
            "stands": t is not None and abs(t) > bar,
            "accuracy": asdict(accuracy) if accuracy is not None and ic is not None else None,
        }
    return found


def draws(rows: LabelledRows, settings: EvaluationConfig) -> Resamples:
    """Draw the resamples of the sessions of ``rows``."""
    return draw(rows.sessions, samples=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed)


def critical_t(confidence: float, tests: int, sessions: int) -> float:
    """Return the two-sided bound of |t| that ``tests`` chance results together exceed with 1 - ``confidence``."""
    return float(student.ppf(1.0 - (1.0 - confidence) / (2.0 * max(tests, 1)), sessions - 1))


def t_value(sums: Floats, resamples: Resamples, statistic: Statistic) -> float | None:
    """Return a statistic over its bootstrap standard error, without the (n-1)/n bias; None where it is undefined."""
    value, found, n = float(statistic(sums.sum(axis=0))), resamples.draws(sums, statistic), resamples.sessions
    error = float(np.nanstd(found)) * math.sqrt(n / (n - 1))
    return value / error if math.isfinite(value) and error > 0 else None


def _ic(sums: SessionSums, resamples: Resamples) -> Interval | None:
    return None if sums.rank_ic is None else resamples.interval(sums.rank_ic, correlation)


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
