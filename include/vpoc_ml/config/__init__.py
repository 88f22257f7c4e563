"""``RunConfig``: one frozen, typed configuration for a whole run.

A preset names a complete configuration; overrides change single settings by dotted key
(``training.learning_rate=1e-4``); unknown keys and impossible values are errors. The trigger form of
the DAG is generated from the same fields, limits and descriptions. This package imports pydantic and
the standard library only, because DAG files import it while they are parsed.
"""

from vpoc_ml.config.overrides import change, parse_override, resolve
from vpoc_ml.config.presets import (
    PRESETS,
    TOP5_FEATURES,
    ambitious,
    conservative,
    ensemble,
    medium,
    nightly,
    preset,
    smoke,
    top5,
)
from vpoc_ml.config.schema import form_fields, number, number_field, setting_keys
from vpoc_ml.config.settings import (
    DataConfig,
    DatasetConfig,
    EvaluationConfig,
    FeaturesConfig,
    IngestConfig,
    MachineConfig,
    ModelConfig,
    MonitoringConfig,
    ProfileConfig,
    PromotionConfig,
    QualityConfig,
    QualityThresholds,
    RunConfig,
    ScoringConfig,
    Section,
    TrainingConfig,
)

__all__ = [
    "PRESETS",
    "TOP5_FEATURES",
    "DataConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "FeaturesConfig",
    "IngestConfig",
    "MachineConfig",
    "ModelConfig",
    "MonitoringConfig",
    "ProfileConfig",
    "PromotionConfig",
    "QualityConfig",
    "QualityThresholds",
    "RunConfig",
    "ScoringConfig",
    "Section",
    "TrainingConfig",
    "ambitious",
    "change",
    "conservative",
    "ensemble",
    "form_fields",
    "medium",
    "nightly",
    "number",
    "number_field",
    "parse_override",
    "preset",
    "resolve",
    "setting_keys",
    "smoke",
    "top5",
]
