"""Names of the files in a folder where a model is trained: that of a run, a fold, a seed or a trial of a search.

Standard library only. The code that computes weights imports this module and not ``layout``, so that no other name of
a lake makes a trained model out of date.
"""

from __future__ import annotations

from pathlib import Path

CONFIG = "config.json"
TRAINING_SET = "training_set.parquet"
FEATURE_STATISTICS = "feature_statistics.json"
REFIT_CHOICES = "refit.json"
"""Only where the folds chose how the model is trained."""
TRAINING_CONFIG = "training_config.json"
TRAINING_RESULT = "training_result.json"
TRAINING_LOG = "training_log.txt"
PROGRESS = "progress.jsonl"
CHECKPOINTS = "checkpoints"
FALLBACK = "fallback"
"""Folder of the records of presets that were unstable."""
BEST_MODEL = "best_model"
FINAL_MODEL = "final_model"
BEST_MODEL_CARD = f"{BEST_MODEL}.json"
"""The weights lie beside each model's card, in a file of the same name."""

SEEDS = "seeds"
"""Folder of the folders in which a seed study trains."""
SEEDS_RESULT = "seeds.json"
SEARCH = "search"
SEARCH_RESULT = f"{SEARCH}/search.json"
SEARCH_RETURNS = f"{SEARCH}/returns.parquet"
SEARCH_JOURNAL = f"{SEARCH}/journal.log"
"""What the suggestions of a search remember."""
TRIALS = f"{SEARCH}/trials"
TRIAL_RESULT = "trial.json"
VALIDATION_RETURNS = "validation_returns.parquet"
"""Both are in a trial's folder, ``search/trials/<trial>/``."""


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return the file of the checkpoint after ``step`` optimizer steps: ``step-000000000120.ckpt``."""
    return folder / f"step-{step:012d}.ckpt"


def stored_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder by their steps, the newest last; none where there is no folder.

    The order is that of the steps in the names: a file's time depends on a clock that may jump back.
    """
    return sorted(folder.glob("step-*.ckpt"))
