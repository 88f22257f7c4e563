"""One trial of a search, as ``search.json`` holds it."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import ValidationMetrics


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
