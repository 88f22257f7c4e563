"""The settings: one frozen section a layer, each with its limits and its help."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vpoc_ml.config.choices import Encoding, Horizon, Target
from vpoc_ml.config.renamed import current_document, merged_parameters

ANY_AGE = 10_000
"""The value of ``quality.max_age_sessions`` that turns the age of the bars and the end of each file off."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
EMPTY_IS_ALL: dict[str, JsonValue] = {"empty": "all"}
"""What an empty value of a setting means, for ``shown``; a setting without it shows "none"."""


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChangedSection(Section):
    """A section of which some settings of the previous release are now part of another setting."""

    @model_validator(mode="before")
    @classmethod
    def _of_previous_release(cls, stored: Any) -> Any:
        return merged_parameters(stored) if isinstance(stored, Mapping) else stored


def distinct(values: tuple[str, ...], field: ValidationInfo) -> tuple[str, ...]:
    """Refuse a list that holds a value twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"{field.field_name} that differ")
    return values


class DataConfig(Section):
    """Which futures a run reads."""

    instrument: str = Field("ES", description="Root symbol of the futures to read.")
    contracts: tuple[str, ...] = Field(
        (), description="Contracts to use, such as ESH25; empty means all found.", json_schema_extra=EMPTY_IS_ALL
    )
    roll_rule: Literal["instrument", "volume", "open_interest", "calendar"] = Field(
        "instrument", description="What makes a contract the front one; instrument: as its entry says (ES: volume)."
    )
    open_interest: str = Field(
        "", description="File of daily open interest for that rule: LEAN zip, or CSV contract,session,open_interest."
    )
    rolls: str = Field(
        "",
        description="CSV contract,gap[,ratio] of price steps at rolls, new minus old in points; they replace the"
        " measured ones, and a wrong step shifts the whole past of its contract.",
    )
    adjusted: bool = Field(
        False,
        description="The files are pieces of one adjusted series: no step at any roll. On unadjusted files every"
        " contract then sees a false return at its roll.",
    )
    vix: Literal["instrument", "required", "none"] = Field(
        "instrument",
        description="Whether bars and features have the VIX; instrument: as its entry says; none: no VIX file is needed"
        " and family vix is left out.",
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="First share of the front sessions that a run uses; a lower one trains and tests on older data.",
    )

    @field_validator("adjusted")
    @classmethod
    def _one_statement(cls, adjusted: bool, others: ValidationInfo) -> bool:
        if adjusted and others.data.get("rolls"):
            raise ValueError("false where data.rolls names a file")
        return adjusted


class IngestConfig(Section):
    """How vendor files become canonical bars."""

    quarantine_limit: Share = Field(
        0.01,
        description="Largest share of bad rows in one file; more is an error. A higher one lets damaged files pass.",
    )
    bad_prints: int = Field(
        5,
        ge=0,
        le=1000,
        description="Most isolated bad prints of a contract that go to quarantine; if there are more, all stay in the"
        " bars and gate bars fails.",
    )
    min_price: float = Field(
        0.25,
        gt=0,
        description="Smallest price in points that can be a price, unless the instrument allows negative_prices.",
    )
    reader: str = Field(
        "auto", description="Reader of the files, or pattern=reader pairs such as *.csv=kibot; auto: by content."
    )
    timezone: str = Field(
        "auto", description="Zone of timestamps that do not carry one (America/Chicago), or pattern=zone pairs."
    )
    label_side: str = Field(
        "auto",
        description="Side of the bar that timestamps mark: start or end, or pattern=side pairs; auto: the vendor's.",
    )
    date_order: Literal["auto", "month_first", "day_first"] = Field(
        "auto", description="Order of slashed dates; auto: the one that every date of the file fits."
    )
    mapping: tuple[str, ...] = Field(
        (),
        description="Columns of a CSV or Parquet file of your own: timestamp=Time, open=O, ..., format=%Y-%m-%d %H:%M.",
    )
    expansion_limit: float = Field(
        200.0,
        ge=1,
        le=100_000,
        description="Largest expanded size of a packed or Parquet file as a multiple of its own; a higher one reads"
        " larger archives with more time and memory. 256 MiB always pass.",
    )
    vix_mapping: tuple[str, ...] = Field(
        (), description="Columns of a VIX file of your own: date=Datum, close=Zuletzt, format=%d.%m.%Y, decimal=comma."
    )
    covariates: tuple[str, ...] = Field(
        (),
        description="Further indices for the bars: NAME[=FILE][@HH:MM[+DAYS]], New York time of their publication; a"
        " time that is too early lets bars see values that nobody knew.",
    )
    conflicts: Literal["error", "latest"] = Field(
        "error", description="Bars that differ between two files: reject them, or take the file whose bars end last."
    )


class ProfileConfig(Section):
    """How a volume profile is built."""

    value_area: float = Field(
        0.70,
        ge=0.05,
        le=1,
        description="Share of volume inside the value area; a higher one widens it. A low one fits into few prices, so"
        " VAH and VAL lie close to the VPOC and say little beside it.",
    )
    value_area_rule: Literal["two_price", "one_price"] = Field(
        "two_price", description="Rows compared at each step that extends the value area."
    )
    spread: Literal["uniform", "close_only", "triangular"] = Field(
        "uniform", description="How a bar's volume lies on its ticks: even, all at the close, or rising to the close."
    )


class FeaturesConfig(Section):
    """Which features the model sees."""

    names: tuple[str, ...] = Field(
        (),
        description="Feature columns in model order; empty means all of the registry and of the extras.",
        json_schema_extra=EMPTY_IS_ALL,
    )
    extras: tuple[
        Literal["garch", "har", "hurst", "wavelet", "cointegration", "fracdiff", "alpha158", "covariates"],
        ...,
    ] = Field(
        (),
        description="Optional families to add: garch, har, hurst, wavelet, cointegration, fracdiff, alpha158,"
        " covariates.",
    )
    own: tuple[str, ...] = Field(
        (),
        description="Families of own features to add, from plugins (docs/how-to/own-feature.md). A family adds its"
        " columns to every contract, and the leakage gate proves them too.",
    )
    pair: str = Field(
        "", validate_default=True, description="Other instrument of family cointegration, such as NQ, in the same lake."
    )

    _distinct = field_validator("names", "own")(distinct)

    @field_validator("pair")
    @classmethod
    def _named(cls, symbol: str, others: ValidationInfo) -> str:
        if not symbol and "cointegration" in others.data.get("extras", ()):
            raise ValueError("the symbol of another instrument, which family cointegration of features.extras reads")
        return symbol


class DatasetConfig(ChangedSection):
    """Labels and chronological splits."""

    label: Literal["next_open", "close"] = Field(
        "next_open",
        description="Price at which a label begins. next_open: the open of the bar after the decision, where an order"
        " can be filled. close: the published definition, which counts bid-ask bounce as a return.",
    )
    horizon: Horizon = Field(
        Horizon(),
        description="Where a label ends: 1m to 1379m (minutes later in the same session), close (the session's close)"
        " or 1s to 20s (close of a later session, across rolls on adjusted prices). Labels of a longer horizon"
        " overlap, so there is less independent evidence.",
        json_schema_extra={"examples": ["1m", "15m", "60m", "close", "1s", "5s"]},
    )
    return_clip: float = Field(
        0.10,
        gt=0,
        le=1,
        description="Largest absolute log return of a label; larger ones are clipped, so a low value hides crashes.",
    )
    train_share: float = Field(
        0.60,
        gt=0,
        lt=1,
        description="Share of the sessions that train; a higher one leaves fewer sessions for the test.",
    )
    validation_share: float = Field(
        0.20, gt=0, lt=1, description="Share of the sessions for early stopping; a low one stops on noise."
    )
    embargo_sessions: int = Field(
        1,
        ge=0,
        le=60,
        description="Sessions dropped between two splits; 0 lets features of one split reach into the other.",
    )
    min_sessions: int = Field(
        10,
        ge=5,
        le=5000,
        description="Smallest number of usable sessions for a run; three a split and the embargoes may need more.",
    )
    history_sessions: int = Field(
        0,
        ge=0,
        le=5000,
        description="Sessions before a fold on which its model is trained; 0: all. A rolling window forgets old markets"
        " and has less data.",
    )
    target: Target = Field(
        Target(),
        description="What the network is trained on: rank, rank_gauss, return, vol_scaled(bars=30), binary,"
        " multiclass(classes=3) or quantiles(levels=0.1 0.25 0.5 0.75 0.9).",
        json_schema_extra={"examples": list(Target.examples())},
    )
    scaler: Literal["none", "robust", "mad", "robust_scaler", "winsor", "quantile", "yeo_johnson", "box_cox"] = Field(
        "none", description="Scaling of the features before the model's guard, fitted on training rows."
    )

    @field_validator("validation_share")
    @classmethod
    def _leaves_a_test(cls, share: float, others: ValidationInfo) -> float:
        train = others.data.get("train_share", 0.0)
        if share + train >= 1:
            raise ValueError(f"below {1 - train:g}, what train_share leaves, so that the test gets sessions too")
        return share


class ModelConfig(ChangedSection):
    """The network."""

    kind: Literal["residual", "reference_mlp", "mlp", "mlp_batchnorm", "attention"] = Field(
        "residual",
        description="residual: pre-norm residual net; reference_mlp: the published 299-parameter net; mlp: plain;"
        " mlp_batchnorm: plain, normalised over the batch; attention: between features.",
    )
    hidden_dims: tuple[int, ...] = Field(
        (32, 32), description="Widths; residual and attention take the first and use one block per entry."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout probability while training; a higher one fits less and needs more epochs."
    )
    guard_clip: float = Field(
        6.0, gt=0, le=50, description="Bound of the guard's output after asinh; a lower one clips more of the tails."
    )
    encoding: Encoding = Field(
        Encoding(),
        description="none, or piecewise_linear(bins=24): each feature becomes its progress through bins of training"
        " quantiles.",
        json_schema_extra={"examples": list(Encoding.examples())},
    )
    members: int = Field(1, ge=1, le=1024, description="Networks trained side by side from seeds of their own.")
    groups: tuple[Literal["price", "volume", "volatility", "all"], ...] = Field(
        (), description="Networks of their own for groups of features: price, volume, volatility, all."
    )
    blend: Literal["none", "lightgbm"] = Field(
        "none", description="lightgbm: mix with boosted trees of the same rows, weighted on validation."
    )
    learners: tuple[Literal["ridge", "lightgbm", "net"], ...] = Field(
        ("net",),
        description="Learners of a stack: net, and ridge or lightgbm or both. Sessions before a week choose its weights"
        " and slope; with one split, validation rows do. net: no stack.",
        json_schema_extra={"examples": ["net", "ridge,lightgbm,net"]},
    )
    own: tuple[str, ...] = Field(
        (),
        description="Own learners to add to the stack, from plugins (docs/how-to/own-model.md). Each is fitted again in"
        " every fold, and gets weight only as far as held-out sessions show a gain.",
    )

    @field_validator("hidden_dims")
    @classmethod
    def _wide(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if not widths or min(widths) < 1:
            raise ValueError("one or more widths of at least 1")
        return widths

    linear_path: Literal["none", "ridge"] = Field(
        "none",
        description="ridge: add ridge, which is not trained further, so that the untrained network is ridge. With"
        " model.kind residual and dataset.target rank only.",
    )

    @field_validator("linear_path")
    @classmethod
    def _beside_residual(cls, path: str, others: ValidationInfo) -> str:
        if path != "none" and others.data.get("kind") != "residual":
            raise ValueError("none, unless model.kind is residual")
        return path

    _distinct = field_validator("groups", "learners", "own")(distinct)

    @field_validator("learners")
    @classmethod
    def _with_the_net(cls, learners: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if "net" not in learners:
            raise ValueError("net among them: a stack is stored with its network")
        if len(learners) > 1 and others.data.get("blend", "none") != "none":
            raise ValueError("net alone, as long as model.blend is not none")
        return learners

    @field_validator("own")
    @classmethod
    def _without_blend(cls, own: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if own and others.data.get("blend", "none") != "none":
            raise ValueError("empty, as long as model.blend is not none")
        return own


class TrainingConfig(Section):
    """Optimisation and stability."""

    epochs: int = Field(12, ge=1, le=10_000, description="Largest number of passes over the training rows.")
    batch_size: int = Field(
        1024, ge=1, le=1_048_576, description="Rows per step; larger batches need a higher learning rate."
    )
    learning_rate: float = Field(
        4e-3,
        gt=0,
        le=10,
        description="Peak learning rate of AdamW; too high a rate rolls back, too low a rate does not learn.",
    )
    weight_decay: float = Field(
        1e-2, ge=0, le=10, description="Decoupled weight decay of AdamW; a higher one fits less."
    )
    warmup_steps: int = Field(
        50,
        ge=0,
        le=1_000_000,
        description="Steps of linear warm-up; too few destabilise the first steps of a high rate.",
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate after the warm-up.")
    gradient_clip: float = Field(
        1.0, gt=0, le=1000, description="Largest norm of the gradient; a lower one slows training after outliers."
    )
    clipping: Literal["fixed", "adaptive"] = Field(
        "fixed", description="adaptive: also clip norms 2.5 standard deviations above their running mean, in logs."
    )
    gradient_noise: float = Field(
        0.0, ge=0, le=1, description="Variance of noise added to the gradient, falling with the steps; 0 turns it off."
    )
    accumulation: int = Field(1, ge=1, le=4096, description="Batches per step; their gradients are added up.")
    loss: Literal["auto", "huber", "adaptive_huber", "mse", "pinball", "cross_entropy"] = Field(
        "auto", description="auto: the loss that goes with dataset.target."
    )
    huber_delta: float = Field(
        0.1, gt=0, le=10, description="Delta of the Huber loss in rank units; adaptive_huber starts there."
    )
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay of the averaged weights; 0 turns averaging off.")
    patience: int = Field(
        4, ge=1, le=1000, description="Epochs without a better validation loss before stopping; few may stop too early."
    )
    validations_per_epoch: int = Field(
        1,
        ge=0,
        le=64,
        description="Validations in an epoch; 0: 8 where labels overlap, else 1. With overlapping labels one epoch may"
        " already be too much. Each validation costs a pass over its rows.",
    )
    stride: int = Field(
        1,
        ge=1,
        le=1000,
        description="One row in so many is in an epoch; the next epoch has the rows after those. A stride of a horizon"
        " keeps overlapping labels apart and makes an epoch cheaper.",
    )
    keep_start: bool = Field(
        False,
        description="Whether early stopping may choose the untrained network, the constant. Off, a network that only"
        " loses is stored all the same.",
    )
    monitor_steps: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Steps between two reads of the monitor; more find a failure later and cost less.",
    )
    max_rollbacks: int = Field(
        8, ge=0, le=1000, description="Rollbacks before training fails and the next more conservative preset is tried."
    )
    refit: Literal["nightly", "weekly", "on_change"] = Field(
        "weekly",
        description="When the shipped model is trained again on all sessions, with walk-forward folds. nightly: with"
        " every session; weekly: with the sessions up to the last Friday; on_change: with those before the newest fold."
        " A rarer refit costs less and uses older data.",
    )
    seed: int = Field(7, ge=0, le=2**31 - 1, description="Seed of weights, dropout and permutations.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Number format inside the network; weights and loss stay in float32."
    )


class MachineConfig(Section):
    """The machine that runs: no setting here is part of a hash, and none makes an artifact or a model stale."""

    device: Literal["auto", "cpu", "cuda", "rocm"] = Field(
        "auto", description="auto takes a GPU (CUDA or ROCm) if it works; cuda and rocm fail without one."
    )
    allow_cpu: bool = Field(
        True, description="Whether auto may train on the CPU; false makes a GPU that does not work an error."
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads of the training; 1 is fastest for small networks.")
    engine: Literal["auto", "eager", "fused"] = Field(
        "auto",
        description="What computes the training steps; auto takes fused for networks and batches that are small.",
    )
    vram_limit_gib: float = Field(
        1.0, ge=0, le=1024, description="GiB that others may hold on the GPU before training; 0 turns the check off."
    )
    checkpoint_seconds: float = Field(
        30.0, ge=0, le=86_400, description="Seconds between two checkpoints inside an epoch; 0: at every monitor read."
    )
    fallback: bool = Field(
        True, description="Whether training goes on with the next more conservative preset after it has given up."
    )
    processes: int = Field(
        2,
        ge=1,
        le=64,
        description="Folds that the command line trains at the same time; each needs memory of its own. In a DAG the"
        " pool of the training task decides.",
    )
    chunk_rows: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Bars whose features are computed at a time; 0: the whole contract. Lower values need less RAM.",
    )
    docs_limit: int = Field(60, ge=1, le=10_000, description="Newest validations kept in the Data Docs.")


class EvaluationConfig(Section):
    """Evaluation on rows that no model was trained on."""

    fold: str = Field(
        "contract",
        pattern="^(contract|off|[1-9][0-9]{0,3})$",
        description="Test period of a walk-forward fold: contract (one front contract), a number of sessions, or off."
        " More folds cost more training. off: one split, and the model is trained on the oldest sessions only.",
        json_schema_extra={"examples": ["contract", "20", "60", "off"]},
    )
    min_history_sessions: int = Field(
        25,
        ge=8,
        le=5000,
        description="Usable sessions before the first fold; fewer give a longer track record that begins with models of"
        " little data.",
    )
    huber_delta: float = Field(0.1, gt=0, le=10, description="Delta at which every Huber loss is reported.")
    bootstrap_samples: int = Field(
        500, ge=100, le=100_000, description="Resamples of the block bootstrap; fewer make the intervals less exact."
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Confidence of every interval; a higher one promotes less often."
    )
    round_turn_cost: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Costs of one round turn, dollars a contract; none: the instrument's own.",
        json_schema_extra={"empty": "the instrument's own"},
    )
    seed: int = Field(11, ge=0, le=2**31 - 1, description="Seed of the bootstrap.")

    @field_validator("fold", mode="before")
    @classmethod
    def _as_text(cls, fold: Any) -> Any:
        return str(fold) if isinstance(fold, int) and not isinstance(fold, bool) else fold


class QualityThresholds(Section):
    """Thresholds of the gates; the defaults are those of level ``standard``."""

    row_count_warn: Share = Field(0.02, description="Missing share of the calendar's minutes that warns.")
    row_count_fail: Share = Field(
        0.10, description="Missing share of the calendar's minutes that fails; a higher one passes more holes."
    )
    max_gap_minutes: int = Field(
        30,
        ge=1,
        le=1380,
        description="Most minutes in a row without a bar of the front contract; a longer gap fails gate bars.",
    )
    outlier_warn: Share = Field(0.20, description="Share of a feature beyond 5 MAD that warns.")
    class_share_min: Share = Field(0.20, description="Smallest share of up or down labels in a split.")
    zero_share_max: Share = Field(0.60, description="Largest share of unchanged prices in a split's labels.")
    soft_range_warn: Share = Field(0.05, description="Share of a feature outside its usual range that warns.")
    vix_missing_fail: Share = Field(0.20, description="Share of bars without a known VIX close that fails.")
    quarantine_warn: Share = Field(0.001, description="Share of a delivery's rows in quarantine that warns.")
    stale_bars_fail: int = Field(
        25,
        ge=1,
        le=1380,
        description="Bars in a row that repeat the prices of the bar before and fail gate bars; a higher number passes"
        " a frozen feed.",
    )
    no_volume_bars_fail: int = Field(
        25,
        ge=1,
        le=1380,
        description="Bars in a row without volume, of a front contract, that fail gate bars; their profile is empty.",
    )

    @field_validator("row_count_fail")
    @classmethod
    def _warned_first(cls, fail: float, others: ValidationInfo) -> float:
        if fail < (warn := others.data.get("row_count_warn", 0.0)):
            raise ValueError(f"at least row_count_warn, {warn:g}")
        return fail

    @property
    def changed(self) -> tuple[str, ...]:
        """Each threshold that differs from level ``standard``, as reports show it."""
        usual, own = QualityThresholds().model_dump(), self.model_dump()
        return tuple(f"{name}={own[name]:g} (standard {usual[name]:g})" for name in own if own[name] != usual[name])


QUALITY_LEVELS: dict[str, dict[str, float]] = {
    "strict": {
        "row_count_warn": 0.005,
        "row_count_fail": 0.02,
        "max_gap_minutes": 10,
        "outlier_warn": 0.10,
        "class_share_min": 0.30,
        "zero_share_max": 0.50,
        "soft_range_warn": 0.02,
        "vix_missing_fail": 0.05,
        "quarantine_warn": 0.0005,
        "stale_bars_fail": 15,
        "no_volume_bars_fail": 10,
    },
    "standard": {},
    "lenient": {
        "row_count_warn": 0.05,
        "row_count_fail": 0.30,
        "max_gap_minutes": 120,
        "outlier_warn": 0.40,
        "class_share_min": 0.10,
        "zero_share_max": 0.80,
        "soft_range_warn": 0.10,
        "vix_missing_fail": 0.50,
        "quarantine_warn": 0.01,
        "stale_bars_fail": 120,
        "no_volume_bars_fail": 120,
    },
}
"""Level of ``quality.level`` -> thresholds that differ from ``QualityThresholds``."""


class QualityConfig(ChangedSection):
    """How strictly the gates check."""

    level: Literal["strict", "standard", "lenient"] = Field(
        "standard",
        description="Set of thresholds. lenient passes data with more holes and outliers; strict fails on little.",
    )
    overrides: tuple[str, ...] = Field(
        (), description=f"Single thresholds, name=value: {', '.join(QualityThresholds.model_fields)}."
    )
    max_age_sessions: int = Field(
        2,
        ge=0,
        le=ANY_AGE,
        description="Most sessions that may be missing between the newest bar and the run's clock; with more, gate bars"
        " fails and nothing is scored. 10000: bars of any age, as in commands that neither promote nor score.",
    )

    @field_validator("overrides")
    @classmethod
    def _known(cls, overrides: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        thresholds_of(others.data.get("level", "standard"), overrides)
        return overrides

    @property
    def thresholds(self) -> QualityThresholds:
        """The level's thresholds with the overrides applied."""
        return thresholds_of(self.level, self.overrides)


@cache
def thresholds_of(level: str, overrides: tuple[str, ...]) -> QualityThresholds:
    """Return the thresholds of a level with ``name=value`` overrides applied; the last of a name wins.

    Raises:
        ValueError: an override is not of this form, names no threshold, or is outside its limits.
    """
    values: dict[str, Any] = dict(QUALITY_LEVELS[level])
    for text in overrides:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not separator:
            raise ValueError(f"thresholds as name=value, unlike {text}")
        if name not in QualityThresholds.model_fields:
            raise ValueError(f"one of {', '.join(QualityThresholds.model_fields)}, unlike {name}")
        values[name] = value
    try:
        return QualityThresholds.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise ValueError(f"{first['loc'][0]} {message}") from error


class PromotionThresholds(BaseModel):
    """What a level of ``promotion.level`` requires.

    Attributes:
        false_promotions: probability that candidates without skill are ever promoted, over all nights and presets.
        tolerance: direction accuracy that a candidate may lose against ridge and the champion, as a share of the rows.
        beats_all: the candidate needs this evidence against every simple baseline; else only that it has skill, and it
            must be ahead of the baselines on average.
    """

    model_config = ConfigDict(frozen=True)

    false_promotions: float
    tolerance: float
    beats_all: bool = True


PROMOTION_LEVELS = {
    "strict": PromotionThresholds(false_promotions=0.01, tolerance=0.002),
    "standard": PromotionThresholds(false_promotions=0.05, tolerance=0.005),
    "research": PromotionThresholds(false_promotions=0.50, tolerance=0.02, beats_all=False),
}
"""Level of ``promotion.level`` -> what it requires."""


class PromotionConfig(Section):
    """What a candidate must show before it becomes champion."""

    level: Literal["strict", "standard", "research"] = Field(
        "standard",
        description="How much evidence a promotion needs. Candidates without skill are ever promoted, over all nights"
        " and presets, with a probability of at most 1 % (strict), 5 % (standard) or 50 % (research). strict promotes a"
        " weak signal months later.",
    )
    min_rank_ic: float = Field(
        0.0, ge=0, le=1, description="The rank IC's lower bound must exceed this; a higher value promotes less often."
    )
    require_net_profit: bool = Field(False, description="Also require a positive backtest after costs.")
    tradeable_at: int = Field(
        0,
        ge=0,
        le=3,
        description="Multiple of the costs at which the policy's net result per session must be above zero by the lower"
        " bound of its interval; 0: not required. Few signals at one minute pass even 1.",
    )
    rerun: Literal["always", "never"] = Field(
        "always",
        description="Train a candidate that passes everything else a second time and refuse it if a bit differs. Costs"
        " one more training on the nights that would promote. never: promotes models that may not be reproducible.",
    )
    champion_margin: float = Field(
        0.002,
        ge=-1,
        le=1,
        description="Accuracy to gain over the champion on the same rows (0.002: 0.2 points); 0 changes it on noise.",
    )
    champion_expires: int = Field(
        60,
        ge=1,
        le=5000,
        description="Sessions after which a champion may be replaced by a candidate that is not worse, without the"
        " margin. Fewer change the champion more often.",
    )
    challengers: int = Field(
        3,
        ge=0,
        le=50,
        description="Presets beside the champion's that are scored on every new session; more cost more each night.",
    )
    require_approval: bool = Field(False, description="Wait for a person before the champion changes.")

    @property
    def thresholds(self) -> PromotionThresholds:
        """What the level requires."""
        return PROMOTION_LEVELS[self.level]


class ScoringConfig(Section):
    """What a prediction for a new bar must satisfy. No setting here is part of a training fingerprint."""

    abstain_quantile: float = Field(
        0.999,
        ge=0.5,
        le=1,
        description="Share of the training rows that are nearer to the training data than a row may be to get a"
        " direction; a lower one abstains more often. 1: no row abstains.",
    )
    coverage: float = Field(
        0.9,
        ge=0.5,
        le=0.99,
        description="Share of the returns that the interval of a prediction is to hold; a higher one widens it. Rounded"
        " up to whole percent.",
    )
    coverage_sessions: int = Field(
        20,
        ge=1,
        le=1000,
        description="Newest labelled sessions over which the coverage is reported; more react later and vary less.",
    )
    max_vix_age_sessions: int = Field(
        2,
        ge=0,
        le=ANY_AGE,
        description="Most sessions between the newest VIX close and the newest bar's session; with more, nothing is"
        " scored. Holidays give one or two. 10000: closes of any age.",
    )
    max_feature_lag_minutes: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Most minutes by which the features may end before the bars; with more, nothing is scored. A higher"
        " one scores while features are still missing.",
    )


class MonitoringConfig(Section):
    """When the newest sessions are too far from the champion's training rows. Nothing here changes a model."""

    block_sessions: int = Field(
        5,
        ge=1,
        le=100,
        description="Newest sessions that are compared with the training rows; more react later and vary less. A model"
        " keeps the number of its training.",
    )
    warn_quantile: float = Field(
        0.99,
        ge=0.5,
        le=1,
        description="A distance warns above this quantile of the blocks of training sessions; a lower one warns on"
        " more nights. 1: above the largest.",
    )
    error_factor: float = Field(
        1.75,
        ge=1,
        le=100,
        description="A distance is an error above this multiple of the largest block of training sessions, and above"
        " its floor; a lower one fails on more nights.",
    )
    psi_floor: float = Field(
        0.25,
        ge=0,
        le=100,
        description="Smallest PSI of a feature or the label that is an error; a lower one fails on smaller drifts. 0.4"
        " times a floor is the smallest distance that warns.",
    )
    ks_floor: float = Field(
        0.2, ge=0, le=1, description="Smallest KS distance that is an error; a lower one fails on smaller drifts."
    )
    missing_floor: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Smallest share of missing values, beyond that of training, that is an error; a lower one fails on"
        " fewer missing values.",
    )
    label_mean_floor: float = Field(
        0.3,
        ge=0,
        le=100,
        description="Smallest change of the mean return that is an error, in standard deviations of training; a lower"
        " one fails on smaller trends.",
    )
    label_scale_floor: float = Field(
        0.7,
        ge=0,
        le=100,
        description="Smallest change of the scale of the returns that is an error, as a natural logarithm (0.7: double"
        " or half); a lower one fails on smaller changes of volatility.",
    )
    label_up_floor: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Smallest change of the share of positive returns that is an error; a lower one fails on smaller"
        " trends.",
    )
    coverage_floor: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Smallest shortfall of the intervals' coverage from scoring.coverage that is an error; a third of"
        " it warns. A lower one fails on smaller shortfalls.",
    )


class RunConfig(Section):
    """The configuration of one run. ``preset`` names the preset that the values started from."""

    preset: str = Field("nightly", description="Named preset the values start from.")
    data: DataConfig = DataConfig()
    ingest: IngestConfig = IngestConfig()
    profile: ProfileConfig = ProfileConfig()
    features: FeaturesConfig = FeaturesConfig()
    dataset: DatasetConfig = DatasetConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    quality: QualityConfig = QualityConfig()
    promotion: PromotionConfig = PromotionConfig()
    scoring: ScoringConfig = ScoringConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    machine: MachineConfig = MachineConfig()

    @model_validator(mode="before")
    @classmethod
    def _of_previous_release(cls, stored: Any) -> Any:
        return current_document(stored) if isinstance(stored, Mapping) else stored

    def to_json(self) -> str:
        """Return the canonical JSON text: sorted keys, no spaces; what the hash is taken of."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def digest(self, *sections: str) -> str:
        """Return 16 hex digits of SHA-256 over the named sections; over all but ``machine`` when none is named.

        With sections named, ``training.refit`` does not count: it chooses sessions, which are inputs of a model.
        """
        left_out: dict[str, Any] = {"machine": True} | ({"training": {"refit"}} if sections else {})
        part = self.model_dump(mode="json", include=set(sections) or None, exclude=left_out)
        text = json.dumps(part, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
