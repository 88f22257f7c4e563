"""``feature_statistics.json``: everything that is fitted on the training rows of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.training_files import FEATURE_STATISTICS

FittedTarget = dict[str, str | float | list[float]]
"""A fitted target as JSON: its ``kind`` and its parameters."""
FittedColumnScaler = dict[str, float | list[float]]
"""The parameters of one column's scaler as JSON."""


class FittedScaler(BaseModel):
    """A fitted scaler as JSON: its kind and the parameters of each feature, in model order."""

    model_config = ConfigDict(frozen=True)

    kind: str
    columns: tuple[FittedColumnScaler, ...]


class SplitSpan(BaseModel):
    """The period of one split. Times are ISO 8601, UTC; None for a split without rows."""

    model_config = ConfigDict(frozen=True)

    first: str | None
    last: str | None
    last_label_end: str | None
    sessions: int


class NetworkInputs(JsonArtifact):
    """What a network is built from, beside its configuration.

    Attributes:
        target: the fitted target; None for the rank target.
        scaler: the fitted scaler between the features and the guard; None without one.
        edges: ascending bin edges of each feature, [features][bins + 1]; None without an encoding.
        features: feature columns in model order.
        median: centre of each feature in the guard, after the scaler.
        scale: positive scale of each feature in the guard, after the scaler.
        groups: feature columns of each group of an ensemble; None where they follow from the configuration.
    """

    target: FittedTarget | None = None
    scaler: FittedScaler | None = None
    edges: tuple[tuple[float, ...], ...] | None = None
    features: tuple[str, ...]
    median: tuple[float, ...]
    scale: tuple[float, ...]
    groups: dict[str, list[int]] | None = None

    @model_validator(mode="after")
    def _one_median_and_scale_per_feature(self) -> Self:
        lengths = [len(self.features), len(self.median), len(self.scale)]
        if lengths != [lengths[0]] * 3 or not lengths[0]:
            raise ValueError(f"expected one median and scale per feature, found lists of lengths {lengths}")
        return self


class FeatureStatistics(NetworkInputs):
    """Statistics of a training set. All fitted values come from its training rows.

    Attributes:
        scale_source: percentiles that each scale was computed from, such as ``25-75``.
        nonfinite_share: share of NaN and infinite training values of each feature.
        nonfinite_row_share: share of rows with any NaN or infinity, by split.
        zero_rank: score at which a model expects an unchanged price.
        target_quantiles: quantiles 0, 0.001, ..., 1 of the training returns; they turn a rank into a log return.
        rows: rows by split.
        labelled_rows: rows with a label by split.
        effective_rows: independent labels that these rows are worth, because labels overlap; empty in older files.
        splits: period of each split.
        embargo_sessions: sessions left out between two splits.
    """

    scale_source: tuple[str, ...] = ()
    nonfinite_share: tuple[float, ...] = ()
    nonfinite_row_share: dict[str, float] = Field(default_factory=dict)
    zero_rank: float
    target_quantiles: tuple[float, ...]
    rows: dict[str, int] = Field(default_factory=dict)
    labelled_rows: dict[str, int] = Field(default_factory=dict)
    effective_rows: dict[str, float] = Field(default_factory=dict)
    splits: dict[str, SplitSpan] = Field(default_factory=dict)
    embargo_sessions: int = 0


def read_feature_statistics(folder: Path) -> FeatureStatistics:
    """Read the statistics of the training set in ``folder``.

    Raises:
        MissingInputError: the file does not exist.
        ArtifactError: the file does not hold these statistics.
    """
    return FeatureStatistics.read(
        folder / FEATURE_STATISTICS, what="the statistics of the training set", remedy="Build the training set first."
    )
