"""Checks of gate ``candidate``: the trained model has finite weights and predictions, and its training was sane."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.artifacts.training_result import TrainingResult
from vpoc_ml.quality.checks import NONE, Check, Limit, Measurement
from vpoc_ml.quality.measure import EXAMPLES

SAMPLE = 20_000
"""Newest rows of the training set that the model predicts."""
_VARIES = 1e-9
_LOSS = Limit(share=0.05)
_DISCARDED_WARN, _DISCARDED_FAIL = Limit(share=0.01), Limit(share=0.25)

WEIGHTS, PREDICTION, TRAINING = "weights", "prediction", "training"
CHECKS = (
    Check("rows", PREDICTION, "rows to predict", whole_run=True),
    Check("rows", WEIGHTS, "weights", whole_run=True),
    Check("finite", WEIGHTS, "finite weights", whole_run=True),
    Check("finite", PREDICTION, "finite predictions of rows with finite features", whole_run=True),
    Check("outside", PREDICTION, "predictions of a rank in [0, 1]", None, warn_if=NONE, whole_run=True),
    Check("constant", PREDICTION, "predictions that vary", None, warn_if=NONE, whole_run=True),
    Check("features", ALL, "the features of the training set in their order", whole_run=True),
    Check("loss", TRAINING, "finite losses", whole_run=True),
    Check("worse", TRAINING, "a loss up to 5 % above that of the best constant", None, warn_if=_LOSS, whole_run=True),
    Check("discarded", TRAINING, "steps with a finite loss", _DISCARDED_FAIL, _DISCARDED_WARN, whole_run=True),
    Check("rollbacks", TRAINING, "training without rollbacks", None, info_if=NONE, whole_run=True),
)


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """What is known of a trained model.

    Args:
        weights: Tensor name -> its values.
        features: Features of the model, in its order.
        trained_on: Feature columns of the training set, in their order.
        rows: ts and the model's features of the rows that were predicted.
        predictions: Prediction of each row [n], in rank units.
        ranks: Whether the model's target is the rank, whose predictions lie in [0, 1].
        training: Result of the training.
    """

    weights: dict[str, npt.NDArray[np.floating]]
    features: tuple[str, ...]
    trained_on: tuple[str, ...]
    rows: pl.DataFrame
    predictions: npt.NDArray[np.float64]
    ranks: bool
    training: TrainingResult


def measurements(facts: CandidateFacts) -> list[Measurement]:
    """Measure every check of ``CHECKS``."""
    bad = {name: int((~np.isfinite(values)).sum()) for name, values in facts.weights.items()}
    size = sum(values.size for values in facts.weights.values())
    named = ", ".join(name for name, count in bad.items() if count)
    same = facts.features == facts.trained_on
    order = "" if same else f"{len(facts.features)} of the model, {len(facts.trained_on)} of the training set"
    return [
        Measurement(ALL, WEIGHTS, "rows", int(not size), 1, unit="models"),
        Measurement(ALL, WEIGHTS, "finite", sum(bad.values()), size, note=named, unit="weights"),
        *_of_predictions(facts),
        Measurement(ALL, ALL, "features", int(not same), 1, note=order, unit="lists"),
        *_of_training(facts.training),
    ]


def _of_predictions(facts: CandidateFacts) -> list[Measurement]:
    known = facts.rows.select(pl.all_horizontal(pl.col(facts.features).is_finite().fill_null(value=False))).to_series()
    finite = np.isfinite(facts.predictions)
    values = facts.predictions[finite]
    spread = float(values.max() - values.min()) if values.size else 0.0
    outside = finite & ((facts.predictions < 0) | (facts.predictions > 1)) & facts.ranks
    rows = len(facts.predictions)
    flat = rows > 1 and spread <= _VARIES
    return [
        Measurement(ALL, PREDICTION, "rows", int(not rows), 1, unit="samples"),
        _where(facts, "finite", known.to_numpy() & ~finite),
        _where(facts, "outside", outside),
        Measurement(ALL, PREDICTION, "constant", rows if flat else 0, rows, values=tuple(values[: int(flat)])),
    ]


def _where(facts: CandidateFacts, check: str, bad: npt.NDArray[np.bool_]) -> Measurement:
    first = tuple(facts.rows["ts"].filter(pl.Series(bad)).head(EXAMPLES)) if bad.any() else ()
    values = tuple(float(value) for value in facts.predictions[bad][:EXAMPLES])
    return Measurement(ALL, PREDICTION, check, int(bad.sum()), bad.size, first, values)


def _of_training(training: TrainingResult) -> list[Measurement]:
    losses = {"validation loss": training.best_validation_loss, "loss of the constant": training.validation_constant}
    broken = [f"{name} {value:g}" for name, value in losses.items() if not isfinite(value)]
    best, constant = training.best_validation_loss, training.validation_constant
    above = best / constant - 1 if not broken and constant > 0 else 0.0
    per_mille = max(round(1000 * above), 0)
    note = f"{best:g}, the constant {constant:g}" if per_mille else ""
    tried = training.steps + training.skipped
    return [
        Measurement(ALL, TRAINING, "loss", len(broken), len(losses), note=", ".join(broken), unit="losses"),
        Measurement(ALL, TRAINING, "worse", per_mille, 1000, note=note, unit="thousandths"),
        Measurement(ALL, TRAINING, "discarded", training.skipped, max(tried, 1), unit="steps"),
        Measurement(ALL, TRAINING, "rollbacks", training.rollbacks, max(tried, 1), unit="steps"),
    ]
