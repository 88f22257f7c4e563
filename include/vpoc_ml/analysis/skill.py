"""Skill of a single feature: its rank correlation with the next return."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import t as student

from vpoc_ml.analysis.train_validation_view import TrainValidationView
from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.config import EvaluationConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.evaluation.bootstrap import Resamples, Statistic, draw
from vpoc_ml.evaluation.forecasts import Floats, Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import SessionSums, correlation, ratio, reduce


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
