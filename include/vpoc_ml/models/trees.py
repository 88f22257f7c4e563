"""LightGBM trees beside the networks: fitted on the same guarded rows and stored in LightGBM's text format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vpoc_ml.errors import CheckpointError

if TYPE_CHECKING:
    import lightgbm

Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.float32]

ROUNDS, PATIENCE = 400, 30
Settings = dict[str, str | float]
SQUARED: Settings = {"objective": "regression"}
LARGEST_LEAF, LEAVES_AT_LEAST = 3000, 100
# One thread and row-wise histograms: the same trees on every machine
SETTINGS = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "lambda_l2": 10.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Trees:
    """Trees that predict the rank of the return. ``text`` is the stored model."""

    text: str

    @cached_property
    def booster(self) -> lightgbm.Booster:
        """The LightGBM model.

        Raises:
            CheckpointError: the text is not a model of LightGBM.
        """
        import lightgbm

        try:
            return lightgbm.Booster(model_str=self.text)
        except lightgbm.basic.LightGBMError as error:
            raise CheckpointError("trees", "the text of a LightGBM model", f"another ({error})") from error

    @property
    def rounds(self) -> int:
        """Number of trees."""
        return int(self.booster.num_trees())

    def predict(self, guarded: Inputs) -> Floats:
        """Return the predicted rank [rows] for guarded features [rows, features]."""
        return np.asarray(self.booster.predict(guarded, num_threads=1), dtype=np.float64)


def weak_signal(rows: int) -> Settings:
    """Return the settings of a stack's trees: a squared loss, and few large leaves for a signal far below the noise.

    They had the best rank IC of the tested settings on real minute bars. ``rows`` is the number of training rows: a
    leaf has at least 3,000 of them, with a short history at least 1 %.
    """
    return {
        "objective": "regression",
        "learning_rate": 0.03,
        "num_leaves": 15,
        "min_data_in_leaf": min(LARGEST_LEAF, rows // LEAVES_AT_LEAST),
        "lambda_l2": 100.0,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
    }


def huber(delta: float) -> Settings:
    """Return the settings of the Huber loss. Networks and trees trained with it estimate the same quantity.

    LightGBM's steps assume that every residual is within ``delta``. If most are beyond it, the steps are too small, so
    the learning rate is higher.
    """
    return {"objective": "huber", "alpha": delta, "learning_rate": 0.15}


def fit_trees(
    train: tuple[Inputs, Floats],
    validation: tuple[Inputs, Floats] | None,
    seed: int,
    loss: Settings = SQUARED,
    rounds: int = ROUNDS,
) -> Trees:
    """Fit trees on training rows, at most ``rounds``, until 30 rounds do not improve the validation rows.

    Args:
        train: guarded features [rows, features] and rank targets [rows]; rows with a NaN target do not count.
        validation: the same of the validation rows; None: all rounds are fitted.
        seed: seed of LightGBM.
        loss: ``SQUARED``, ``huber(delta)`` or ``weak_signal(rows)``.
        rounds: largest number of trees.

    Returns:
        The trees up to the best round, read from their text: the blend is fitted on the stored trees.
    """
    import lightgbm

    settings = {**SETTINGS, **loss, "seed": seed}
    data = lightgbm.Dataset(*_labelled(train), params=settings, free_raw_data=True)
    if validation is None:
        return Trees(lightgbm.train(settings, data, rounds).model_to_string())
    held = lightgbm.Dataset(*_labelled(validation), reference=data, params=settings)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    booster = lightgbm.train(settings, data, rounds, valid_sets=[held], callbacks=[stop])
    return Trees(booster.model_to_string(num_iteration=booster.best_iteration))


def _labelled(rows: tuple[Inputs, Floats]) -> tuple[Inputs, Floats]:
    inputs, ranks = rows
    known = np.isfinite(ranks)
    return (inputs, ranks) if known.all() else (inputs[known], ranks[known])
