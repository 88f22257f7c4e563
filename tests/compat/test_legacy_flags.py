"""The earlier trainer's command lines, as published, mean the same settings here."""

from __future__ import annotations

import shlex

import pytest

from vpoc_ml.compat import legacy_flags
from vpoc_ml.config import resolve
from vpoc_ml.errors import ConfigError, InvalidValueError

ROBUST = """--data DATA/MERGED/merged_es_vix_test.csv --output_dir TRAINING_ROBUST --epochs 3 --batch_size 16
    --learning_rate 1e-4 --hidden_dims 16 8 --dropout_rate 0.1 --verbose"""
STABLE = """--data DATA/MERGED/merged_es_vix_test.csv --output_dir TRAINING/STABLE_28_FEATURES_ENHANCED --epochs 50
    --batch_size 16 --learning_rate 0.00001 --hidden_dims 32 16 --dropout_rate 0.4 --weight_decay 0.01
    --warmup_steps 2000 --gradient_clip_value 15.0 --early_stopping_patience 25 --data_fraction 1.0
    --chunk_size 15000 --adaptive_loss --verbose"""
AMBITIOUS = """--data DATA/MERGED/merged_es_vix_test.csv --output_dir TRAINING/ENHANCED_AMBITIOUS --epochs 100
    --batch_size 64 --learning_rate 0.0002 --hidden_dims 512 256 128 64 --dropout_rate 0.15 --weight_decay 0.00005
    --warmup_steps 3000 --gradient_clip_value 2.0 --early_stopping_patience 30 --use_mixed_precision
    --data_fraction 1.0 --chunk_size 75000 --adaptive_loss --verbose"""
LAYERS = """--data DATA/MERGED/merged_es_vix_test.csv --output TRAINING/ --epochs 30 --batch_size 16
    --learning_rate 0.0002 --hidden_layers 192,128,64 --use_mixed_precision"""
DEBUG = """--data ./DATA/MERGED/merged_es_vix_test.csv --output ./TRAINING/ --epochs 1 --batch_size 4
    --skip_gpu_cleanup --chunk_size 1000"""
PUBLISHED = {
    ROBUST: {
        "training.epochs": 3,
        "training.batch_size": 16,
        "training.learning_rate": 1e-4,
        "model.hidden_dims": (16, 8),
        "model.dropout": 0.1,
        "training.patience": 15,
    },
    STABLE: {
        "training.epochs": 50,
        "training.batch_size": 16,
        "training.learning_rate": 1e-5,
        "model.hidden_dims": (32, 16),
        "model.dropout": 0.4,
        "training.weight_decay": 0.01,
        "training.warmup_steps": 2000,
        "training.gradient_clip": 15.0,
        "training.patience": 25,
        "data.fraction": 1.0,
        "machine.chunk_rows": 15000,
        "training.loss": "adaptive_huber",
    },
    AMBITIOUS: {
        "training.epochs": 100,
        "training.batch_size": 64,
        "training.learning_rate": 2e-4,
        "model.hidden_dims": (512, 256, 128, 64),
        "model.dropout": 0.15,
        "training.weight_decay": 5e-5,
        "training.warmup_steps": 3000,
        "training.gradient_clip": 2.0,
        "training.patience": 30,
        "training.precision": "bf16",
        "data.fraction": 1.0,
        "machine.chunk_rows": 75000,
        "training.loss": "adaptive_huber",
    },
    LAYERS: {
        "training.epochs": 30,
        "training.batch_size": 16,
        "training.learning_rate": 2e-4,
        "model.hidden_dims": (192, 128, 64),
        "training.precision": "bf16",
        "training.patience": 15,
    },
    DEBUG: {
        "training.epochs": 1,
        "training.batch_size": 4,
        "machine.vram_limit_gib": 0.0,
        "machine.chunk_rows": 1000,
        "training.patience": 15,
    },
}


@pytest.mark.parametrize("command", PUBLISHED, ids=["robust", "stable", "ambitious", "layers", "debug"])
def test_published_command_is_understood_as_it_stands(command):
    requested = legacy_flags.parse(shlex.split(command))
    assert requested.settings == PUBLISHED[command]
    assert requested.data.name == "merged_es_vix_test.csv"
    assert requested.output is not None
    assert requested.verbose == ("--verbose" in command)
    config = resolve(legacy_flags.PRESET, requested.settings)
    assert (config.model.kind, config.training.schedule, config.training.ema_decay) == (
        "reference_mlp",
        "constant",
        0.0,
    ), "the earlier net and its schedule"


def test_published_robust_command_is_the_top5_preset_but_for_its_patience():
    requested = legacy_flags.parse(shlex.split(ROBUST))
    config = resolve(legacy_flags.PRESET, requested.settings | {"training.patience": 3})
    assert config == resolve("top5")


def test_accumulation_and_no_clipping():
    requested = legacy_flags.parse(["--gradient_accumulation_steps", "4", "--gradient_clip_value", "0"])
    assert requested.settings == {
        "training.patience": 15,
        "training.accumulation": 4,
        "training.gradient_clip": legacy_flags.NO_CLIP,
    }
    resolve("top5", requested.settings)


def test_no_flags_of_the_earlier_trainer_are_none():
    assert legacy_flags.parse([]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rat", "1"], "unrecognized arguments: --learning_rat"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--hidden_dims", "16", "--hidden_layers", "16,8"], "not allowed with"),
        (["16", "8"], "unrecognized arguments: 16 8"),
    ],
)
def test_flag_that_is_wrong_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        legacy_flags.parse(arguments)


@pytest.mark.parametrize("widths", [["16", "x"], ["0"], ["16,-8"], [","]])
def test_widths_are_positive_whole_numbers(widths):
    with pytest.raises(InvalidValueError, match=r"--hidden_dims to be widths such as 16 8"):
        legacy_flags.parse(["--hidden_dims", *widths])
