"""``seeds.json`` and ``search.json`` of a run: the seeds of a study compared, and the trials of a search."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import ValidationMetrics


class SeedComparison(JsonArtifact):
    """Results of a seed study on validation rows; values by seed have the seed as text for a key.

    Attributes:
        seeds: the seeds in the order of training.
        validation_losses: lowest validation loss of each seed.
        spread: standard deviation of the losses.
        best: seed with the lowest loss.
        correlations: rank correlation of each seed's prediction with the target; None for a constant prediction.
        mean_correlation: rank correlation of the mean prediction with the target.
        models: path of each seed's model card, relative to the run's folder.
    """

    seeds: tuple[int, ...]
    validation_losses: dict[str, float]
    spread: float
    best: str
    correlations: dict[str, float | None]
    mean_correlation: float | None
    models: dict[str, str]


class TrialRecord(JsonArtifact):
    """A finished trial.

    Attributes:
        number: number of the trial in its search, from 0.
        trial: name of the trial's folder.
        params: values of the varied settings.
        status: ``scored``, ``unstable`` or ``impossible``.
        value: the maximised metric; None unless the trial was scored.
        metrics: metrics on validation rows; None unless the trial was scored.
    """

    number: int
    trial: str
    params: dict[str, str | int | float | bool | None]
    status: str
    value: float | None
    metrics: ValidationMetrics | None = None
