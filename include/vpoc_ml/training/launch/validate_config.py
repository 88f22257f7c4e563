"""Validation of the settings against the training set, before anything is trained."""

from __future__ import annotations

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.config import RunConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.build import guarded_edges, stored_target
from vpoc_ml.models.ensemble import group_columns
from vpoc_ml.models.guard import Guard
from vpoc_ml.training.loop.objective import Objective

# What ``require_possible`` reads
VALIDATED_SETTINGS = (
    "model.kind",
    "model.encoding",
    "model.groups",
    "training.loss",
    "training.accumulation",
)


def validate_training_config(config: RunConfig, statistics: FeatureStatistics) -> None:
    """Raise unless network, loss and training set fit together.

    Args:
        config: sections ``model`` and ``training`` are read.
        statistics: ``feature_statistics.json``.

    Raises:
        InvalidValueError: a loss that is not the target's, an encoding whose bins are not in the statistics, a group
            without features, or normalisation over a batch that is divided.
    """
    Objective.of(config.training, stored_target(statistics))
    group_columns(config.model, statistics)
    guarded_edges(config.model, statistics, Guard(statistics.median, statistics.scale, config.model.guard_clip))
    settings = config.training
    if config.model.kind == "mlp_batchnorm" and settings.accumulation > 1:
        # means over parts of a batch differ from those of the batch, and the gradient with them by tens of per cent
        expected = (
            f"another kind, or training.accumulation 1 instead of {settings.accumulation}:"
            " this kind normalises over whole batches"
        )
        raise InvalidValueError("model.kind", config.model.kind, expected)
