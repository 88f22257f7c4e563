"""Named presets: whole configurations."""

from __future__ import annotations

from collections.abc import Callable

from vpoc_ml.config.settings import (
    ANY_AGE,
    DataConfig,
    DatasetConfig,
    EvaluationConfig,
    FeaturesConfig,
    ModelConfig,
    PromotionConfig,
    QualityConfig,
    RunConfig,
    TrainingConfig,
)
from vpoc_ml.errors import UnknownPresetError

TOP5_FEATURES = ("close_change_pct", "vwap", "price_range", "price_mom_3d", "price_mom_5d")

ONE_SPLIT = EvaluationConfig(fold="off")
"""The evaluation of the published runs."""


STOPPED_EARLY = TrainingConfig(validations_per_epoch=0, keep_start=True)
"""A network is not worse than its start on validation rows. The published presets stop as they did."""


def nightly() -> RunConfig:
    """The default: a stack of ridge, LightGBM and a guarded pre-norm residual net of batch 1024."""
    return RunConfig(preset="nightly", model=ModelConfig(learners=("ridge", "lightgbm", "net")), training=STOPPED_EARLY)


def smoke() -> RunConfig:
    """Seconds on one core, on data of any age: proves the way, not the skill."""
    return RunConfig(
        preset="smoke",
        model=ModelConfig(hidden_dims=(16,)),
        training=TrainingConfig(epochs=2, warmup_steps=10, monitor_steps=20),
        evaluation=EvaluationConfig(fold="off", bootstrap_samples=200),
        quality=QualityConfig(max_age_sessions=ANY_AGE),
        promotion=PromotionConfig(level="research", rerun="never"),  # its few test sessions can show no more
    )


def top5() -> RunConfig:
    """The published reference run: 5 features, 16-8, 299 parameters, batch 16, Huber 0.1, warm-up 1000, close label."""
    return RunConfig(
        preset="top5",
        evaluation=ONE_SPLIT,
        dataset=DatasetConfig(label="close"),
        features=FeaturesConfig(names=TOP5_FEATURES),
        model=ModelConfig(kind="reference_mlp", hidden_dims=(16, 8), dropout=0.1),
        training=TrainingConfig(
            epochs=3,
            batch_size=16,
            learning_rate=1e-4,
            weight_decay=1e-4,
            warmup_steps=1000,
            schedule="constant",
            gradient_clip=1.0,
            huber_delta=0.1,
            ema_decay=0.0,
            patience=3,
            monitor_steps=500,
        ),
    )


def conservative() -> RunConfig:
    """The published conservative run, and the last fallback preset: a small network, a low rate, a long warm-up."""
    return RunConfig(
        preset="conservative",
        evaluation=ONE_SPLIT,
        data=DataConfig(fraction=0.8),
        model=ModelConfig(kind="reference_mlp", hidden_dims=(64, 32, 16), dropout=0.3),
        training=TrainingConfig(
            epochs=50,
            batch_size=32,
            learning_rate=5e-5,
            weight_decay=1e-3,
            warmup_steps=5000,
            gradient_clip=5.0,
            clipping="adaptive",
            loss="adaptive_huber",
            patience=25,
        ),
    )


def medium() -> RunConfig:
    """The published medium run, between ambitious and conservative.

    Published are widths, rate, batch and dropout. Weight decay, warm-up and clipping lie between those two presets;
    every other value is that of the nightly preset.
    """
    return RunConfig(
        preset="medium",
        evaluation=ONE_SPLIT,
        model=ModelConfig(kind="reference_mlp", hidden_dims=(128, 64, 32), dropout=0.25),
        training=TrainingConfig(
            batch_size=48,
            learning_rate=8e-5,
            weight_decay=5e-4,
            warmup_steps=2000,
            gradient_clip=2.0,
            clipping="adaptive",
        ),
    )


def ambitious() -> RunConfig:
    """The published ambitious run: 180,117 parameters on 10 features. The legacy system collapsed on it.

    One value differs, for protection: the published run used fp16, this preset uses fp32. fp16 overflows at 65,504,
    which raw features exceed. Set ``training.precision=fp16`` for the published value.
    """
    return RunConfig(
        preset="ambitious",
        evaluation=ONE_SPLIT,
        model=ModelConfig(kind="reference_mlp", hidden_dims=(512, 256, 128, 64), dropout=0.15),
        training=TrainingConfig(
            epochs=100,
            batch_size=64,
            learning_rate=2e-4,
            weight_decay=5e-5,
            warmup_steps=3000,
            gradient_clip=2.0,
            clipping="adaptive",
            loss="adaptive_huber",
            patience=30,
        ),
    )


def ensemble() -> RunConfig:
    """Three networks of different seeds per feature group (price, volume, volatility), and boosted trees of all."""
    return RunConfig(
        preset="ensemble",
        model=ModelConfig(groups=("price", "volume", "volatility"), members=3, blend="lightgbm"),
        training=STOPPED_EARLY,
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "nightly": nightly,
    "smoke": smoke,
    "top5": top5,
    "conservative": conservative,
    "medium": medium,
    "ambitious": ambitious,
    "ensemble": ensemble,
}


def preset(name: str) -> RunConfig:
    """Return the named preset's configuration.

    Raises:
        UnknownRecipeError: no preset has this name.
    """
    if name not in PRESETS:
        raise UnknownPresetError(name, tuple(PRESETS))
    return PRESETS[name]()
