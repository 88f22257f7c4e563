"""``seeds.json`` and ``search.json`` of a run: the seeds of a study compared, and the trials of a search."""

from __future__ import annotations

from pydantic import JsonValue

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


class TrialScore(JsonArtifact):
    """The score of a trained trial.

    Attributes:
        value: the maximised metric.
        dead: whether the model predicts one number for every row.
        metrics: metrics on validation rows.
    """

    value: float
    dead: bool = False
    metrics: ValidationMetrics | None = None


class TrialOutcome(JsonArtifact):
    """``trial.json`` of a trial's folder: what came of its settings.

    Attributes:
        trial: name of the trial's folder.
        status: ``scored``, ``unstable`` or ``impossible``.
        value: the maximised metric; None unless the trial was scored.
        dead: whether its model predicts one number for every row; None unless the trial was scored.
        metrics: metrics on validation rows; None unless the trial was scored.
        error: why the trial was not scored; None if it was.
    """

    trial: str
    status: str
    value: float | None
    dead: bool | None = None
    metrics: ValidationMetrics | None = None
    error: str | None = None


class TrialRecord(JsonArtifact):
    """A finished trial of a search. It does not inherit the fields of its outcome, which would come first in the JSON.

    Attributes:
        number: number of the trial in its search, from 0.
        params: values of the varied settings.
        overrides: the same as ``key=value``, as ``-o`` takes them.
        own: whether these are the run's own settings.
        trial, status, value, dead, metrics, error: those of its ``TrialOutcome``.
    """

    number: int
    params: dict[str, str | int | float | bool | None]
    overrides: tuple[str, ...] = ()
    own: bool = False
    trial: str
    status: str
    value: float | None
    dead: bool | None = None
    metrics: ValidationMetrics | None = None
    error: str | None = None


class SearchSummary(JsonArtifact):
    """``search.json`` of a run.

    Attributes:
        space: the varied settings, as text.
        seed: seed of the suggestions.
        trials: number of trials requested.
        finished: number of finished trials.
        unstable: those whose training was unstable.
        impossible: those that could not be trained.
        best: the scored trial with the largest value; None without one.
        records: every finished trial, in order.
    """

    space: tuple[str, ...]
    seed: int
    trials: int
    finished: int
    unstable: int
    impossible: int
    best: TrialRecord | None
    records: tuple[TrialRecord, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object; trials leave out the fields that they do not have."""
        best = None if self.best is None else self.best.to_json()
        return super().to_json() | {"best": best, "records": [record.to_json() for record in self.records]}
