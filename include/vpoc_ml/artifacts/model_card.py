"""The JSON file beside a model's weights: what it needs to predict, how it was trained, the parts of its mix.

Also the summary of a registered version.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from vpoc_ml.artifacts.feature_statistics import FittedScaler, FittedTarget, NetworkInputs, SplitSpan
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import ArtifactError


class ModelPart(BaseModel):
    """One part of a model (a group of networks, ridge, or the trees) and its weight in the mix.

    ``zero_rank`` is the part's score of an unchanged price; 0.5 in models of older versions, which did not store it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    weight: float
    zero_rank: float = 0.5


class TrainingDistances(BaseModel):
    """How far the training rows of a model lie from their centre.

    The distance of a row is the mean square of its guarded features. ``distances[i]`` is the quantile ``levels[i]`` of
    the distances of all training rows; both ascend.
    """

    model_config = ConfigDict(frozen=True)

    levels: tuple[float, ...]
    distances: tuple[float, ...]


class Stack(JsonArtifact):
    """How the scores of several learners become one score in rank units.

    Attributes:
        parts: learners and their weights, non-negative with sum 1, in the order of the scores.
        slope: what a unit of the weighted score counts, 0 to 1.5; with 0 the stack is the constant.
        slope_error: standard error of the slope over sessions, before it is shrunk; 0 without a slope.
        simple: learner that has weight 1 as long as nothing shows that the others help.
        shrinkage: 0 if ``simple`` has all the weight, up to 1 for the weights that fit best.
        sessions: sessions of the rows it was fitted on.
    """

    parts: tuple[ModelPart, ...]
    simple: str
    sessions: int
    slope: float = 0.0
    slope_error: float = 0.0
    shrinkage: float = 0.0


class ModelCard(JsonArtifact):
    """Description of a model. The weights are in a file of their own.

    Attributes:
        features: feature columns in model order.
        zero_rank: score at which the model expects an unchanged price.
        target_quantiles: quantiles 0, 0.001, ..., 1 of the training returns; they turn a rank into a log return.
        target: the fitted target; None for the rank target.
        scaler: the fitted scaler between the features and the guard; None without one.
        model: settings of the network.
        parameters: number of trained values.
        fingerprint: identity of the training data, settings and code.
        torch: version of PyTorch.
        splits: period of each split of the training set.
        best_epoch: epoch with the lowest validation loss, from 1; 0: the start.
        best_validation_loss: that loss.
        dead: the predictions of the best epoch do not vary.
        groups: feature columns of each group of an ensemble.
        parts: parts of a blend or stack with their weights; None for a single part.
        slope: slope of a stack's output, 0 to 1.5; None without a stack.
        name: file name of the model without its ending.
        distances: distances of the training rows, by which a new row is recognised as unlike them; None in models of
            older versions.
    """

    features: tuple[str, ...]
    zero_rank: float
    target_quantiles: tuple[float, ...] | None = None
    target: FittedTarget | None = None
    scaler: FittedScaler | None = None
    model: ModelConfig
    parameters: int | None = None
    fingerprint: str | None = None
    torch: str | None = None
    splits: dict[str, SplitSpan] = Field(default_factory=dict)
    best_epoch: int | None = None
    best_validation_loss: float | None = None
    dead: bool | None = None
    groups: dict[str, list[int]] | None = None
    parts: tuple[ModelPart, ...] | None = None
    slope: float | None = None
    name: str | None = None
    distances: TrainingDistances | None = None

    def learned_until(self) -> datetime:
        """Return the end of the last label that the model was trained or stopped on, UTC.

        Raises:
            ArtifactError: the card holds no such time.
        """
        ends = [span.last_label_end for name, span in self.splits.items() if name in ("train", "validation")]
        known = [datetime.fromisoformat(end) for end in ends if end is not None]
        if not known:
            raise ArtifactError("the model card", "the end of the last training label", "none")
        return max(known)

    def network_inputs(self) -> NetworkInputs:
        """Return what the network is built from, with zeros for all values that the weights file holds."""
        count = len(self.features)
        return NetworkInputs.model_construct(  # without validation: a damaged file may state any number of bins
            features=self.features,
            median=(0.0,) * count,
            scale=(1.0,) * count,
            edges=((0.0,) * (self.model.encoding.bins + 1),) * count,
            target=self.target,
            groups=self.groups,
        )


class StoredModelCard(ModelCard):
    """A model card as read from a file.

    Attributes:
        weights: name of the weights file in the same folder.
        weights_sha256: SHA-256 of that file.
    """

    weights: str
    weights_sha256: str


class VersionDecision(BaseModel):
    """The newest ledger entry about a version: action, time (UTC, ISO 8601) and reasons."""

    model_config = ConfigDict(frozen=True)

    action: str
    time: str
    reasons: tuple[str, ...]


class ModelSummary(BaseModel):
    """A registered version.

    Attributes:
        version: number of the version.
        key: text of its ``ModelKey``, such as ``ES-1m-rank``.
        run: the run that trained it.
        fingerprint: identity of the training data, settings and code.
        registered: time of registration (UTC, ISO 8601).
        champion: it is the current champion of its key.
        metrics: point estimates by name.
        decision: the newest decision about it; None if there is none.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    key: str
    run: str
    fingerprint: str
    registered: str
    champion: bool
    metrics: dict[str, float]
    decision: VersionDecision | None
