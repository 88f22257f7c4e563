"""``feature-analysis.json``: distribution, drift, skill and ablation of a run's features. None: undefined."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import Gains, Interval, ModelMetrics


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class AnalysisScope(_Section):
    """Rows, sessions and settings of an analysis. Rows and sessions are by split; ``first`` and ``last`` are dates."""

    rows: dict[str, int]
    sessions: dict[str, int]
    first: str
    last: str
    contracts: tuple[str, ...]
    horizon: str
    guard_clip: float
    zero_return_share: float | None
    confidence: float
    bootstrap_samples: int
    critical_t: float | None
    test_rows_read: int


class Histogram(_Section):
    """Counts in equal bins from ``low`` to ``high``. Values outside count in the outer bins."""

    low: float
    high: float
    counts: tuple[int, ...]


class Distribution(_Section):
    """Moments, quantiles and histogram of a column. ``rows`` includes the ``nonfinite`` ones."""

    rows: int
    nonfinite: int
    mean: float | None
    sd: float | None
    skewness: float | None
    kurtosis: float | None
    min: float | None
    max: float | None
    p0_1: float | None = Field(alias="p0.1")
    p1: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p99: float | None
    p99_9: float | None = Field(alias="p99.9")
    histogram: Histogram | None


class ContractDrift(_Section):
    """One contract against all others: stability index, and difference of the means in robust scales."""

    rows: int
    psi: float | None
    shift: float | None


class FeatureSkill(_Section):
    """Rank correlation of a feature with the next return. ``stands``: significant after the Bonferroni correction."""

    train_ic: Interval | None
    validation_ic: Interval | None
    t: float | None
    stands: bool
    accuracy: Interval | None


class FeatureResult(_Section):
    """The analysis of one feature.

    Attributes:
        family: family of the feature.
        unit: unit of its values.
        formula: its formula.
        median: training median.
        scale: training scale, see ``dataset.robust_scaling``.
        before: distribution of the raw training values.
        after: distribution after scaler and guard.
        extremes: share of training values beyond so many scales from the median.
        clipped: share of training values that the guard clips.
        drift: by contract.
        skill: rank correlation with the next return.
    """

    family: str
    unit: str
    formula: str
    median: float
    scale: float
    before: Distribution
    after: Distribution
    extremes: dict[str, float]
    clipped: float | None
    drift: dict[str, ContractDrift]
    skill: FeatureSkill


class Cluster(_Section):
    """Features of a cluster and the smallest |rank correlation| between two of them."""

    members: tuple[str, ...]
    weakest: float


class Clusters(_Section):
    """Clusters of features. ``order`` is along the dendrogram, ``rho`` the correlation matrix in that order.

    Two clusters merge while the mean |rank correlation| between their members is at least ``same``.
    """

    same: float
    order: tuple[str, ...]
    groups: tuple[Cluster, ...]
    rho: tuple[tuple[float, ...], ...]


class GroupAblation(_Section):
    """Gain of the full model over the model without a group, and the metrics of a family alone."""

    features: tuple[str, ...]
    gain: Gains
    stands: bool
    alone: ModelMetrics | None


class Ablation(_Section):
    """Ablation with one kind of model: training rows, metrics with all features, and the groups."""

    model: str
    rows: int
    full: ModelMetrics
    groups: dict[str, GroupAblation]


class TargetDistribution(_Section):
    """One kind of target on the labels of the run. ``refused`` is the reason if the kind does not suit them."""

    predicts: str
    chosen: bool
    refused: str | None = None
    loss: str | None = None
    outputs: int | None = None
    distinct: int | None = None
    commonest: float | None = None
    train: Distribution | None = None
    validation: Distribution | None = None


class ScaledShape(_Section):
    """Shape of a scaled feature; ``far`` is the share beyond 5 robust scales."""

    skewness: float | None
    kurtosis: float | None
    far: float | None


class ScalerEffect(_Section):
    """Effect of one kind of scaler on each feature."""

    formula: str
    chosen: bool
    features: dict[str, ScaledShape]


class FeatureAnalysis(JsonArtifact):
    """The analysis of a run's features: ``targets`` and ``scalers`` by kind, ``ablation`` by model."""

    about: AnalysisScope
    features: dict[str, FeatureResult]
    clusters: Clusters
    ablation: tuple[Ablation, ...]
    targets: dict[str, TargetDistribution]
    scalers: dict[str, ScalerEffect]

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object with the fields that were set."""
        content: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return content
