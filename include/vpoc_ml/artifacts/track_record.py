"""The walk-forward track record: sessions of a run, its folds, a fold's fitted learners, and the metrics of all folds.

A fold is a period of test sessions with a model that was trained on earlier sessions only. Its model and its
predictions lie below ``track/<symbol>/<key>/`` and are shared by all runs with the same data, settings and code.
"""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from vpoc_ml.artifacts.fitted_baselines import FittedBaselines
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import Gains, ModelMetrics, SessionGain
from vpoc_ml.config import ModelConfig, TrainingConfig


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True)


class LabelledSession(_Section):
    """One session with usable rows.

    Attributes:
        session: exchange trade date.
        contract: its front contract.
        rows: usable rows.
        digest: hash of all labels and features of these rows, 16 hex digits.
    """

    session: date
    contract: str
    rows: int
    digest: str


class LabelledSessions(JsonArtifact):
    """``sessions.json`` of a run: the usable sessions of all contracts in order of time.

    ``last`` is the last front session that the run reads; ``data.fraction`` cuts the later ones.
    """

    last: date
    sessions: tuple[LabelledSession, ...]

    def digests(self) -> dict[date, str]:
        """Return the digest of each session."""
        return {each.session: each.digest for each in self.sessions}


class Period(_Section):
    """Consecutive usable sessions from ``first`` to ``last``, both inclusive."""

    first: date
    last: date
    sessions: int


class Fold(_Section):
    """One fold of the walk-forward evaluation.

    Attributes:
        name: contract of the test sessions; for folds of N sessions the date of the first one.
        key: identity of the fold's model: training rows, settings, code and libraries, 16 hex digits.
        train: sessions on which everything is fitted.
        validation: sessions after them, for early stopping and penalties.
        test: sessions that the model predicts.
    """

    name: str
    key: str
    train: Period
    validation: Period
    test: Period


class FoldPlan(JsonArtifact):
    """``folds.json`` of a run. ``preset_key`` identifies settings and code of all folds, whatever their data are."""

    preset_key: str
    folds: tuple[Fold, ...]


class FoldModel(JsonArtifact):
    """``fold.json``: a trained fold. It is written last; the fold is complete when it is there.

    Attributes:
        fold: the fold as it was planned when the model was trained; later nights move the end of its test sessions.
        fingerprint: training fingerprint of the model.
        preset: preset that trained it: the run's own, or a fallback preset.
        model, training: settings of that preset.
        best_epoch: epoch of the model's weights.
        trained_epochs: training behind them, 0.125 being an eighth of an epoch.
        best_validation_loss: its loss on the validation sessions.
        train_rows, validation_rows: labelled rows.
        target_quantiles: quantiles 0, 0.001, ..., 1 of the training returns, which define ``y`` of the test rows.
        baselines: the fitted baselines.
        parts: weight of each part of a blend; empty for a single part.
        slope: calibration slope of a stack; None without one.
        trees: number of boosted trees; None without trees.
        ridge_penalty: penalty of the ridge part; None without one.
        trained_in: run that trained it.
        files: SHA-256 of each file of the model.
    """

    fold: Fold
    fingerprint: str
    preset: str
    model: ModelConfig
    training: TrainingConfig
    best_epoch: int
    trained_epochs: float
    best_validation_loss: float
    train_rows: int
    validation_rows: int
    target_quantiles: tuple[float, ...]
    baselines: FittedBaselines
    parts: dict[str, float]
    slope: float | None
    trees: int | None
    ridge_penalty: float | None
    trained_in: str
    files: dict[str, str]


class FoldMetrics(_Section):
    """Metrics of one fold; ``models`` and ``versus`` are empty with fewer than three test sessions.

    Attributes:
        fold: the fold.
        rows, sessions: predicted rows with a label, and their sessions.
        best_epoch: epoch of the fold's weights.
        preset: preset that trained it.
        train_rows: labelled rows that trained it; None in records of older versions.
        weights: weight of each part of the candidate at the end of the fold, which earlier sessions chose or, where
            they were few, the validation sessions; empty for a single part.
        slope: slope of a stack, likewise; None without one.
        models: metrics by learner.
        versus: gains of the candidate over each other learner.
    """

    fold: Fold
    rows: int
    sessions: int
    best_epoch: int
    preset: str
    train_rows: int | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    slope: float | None = None
    models: dict[str, ModelMetrics]
    versus: dict[str, Gains]


class TrackRecord(JsonArtifact):
    """``track_record.json`` of a run: how its preset did, fold by fold, on sessions after those it was trained on.

    Attributes:
        preset_key: see ``FoldPlan``.
        rows, sessions: predicted rows with a label, and their sessions.
        folds: metrics of each fold, oldest first.
        cumulative: by baseline the cumulated Huber gain of the candidate over it, session by session.
        learners: metrics of each part of the candidate alone, over all folds; empty for a single part.
        learner_gains: gains of each part over the constant.
    """

    preset_key: str
    rows: int
    sessions: int
    folds: tuple[FoldMetrics, ...]
    cumulative: dict[str, tuple[SessionGain, ...]]
    learners: dict[str, ModelMetrics] = Field(default_factory=dict)
    learner_gains: dict[str, Gains] = Field(default_factory=dict)
