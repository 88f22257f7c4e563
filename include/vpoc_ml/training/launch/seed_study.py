"""One net per seed, one process per card: no communication, so cards and their faults stay apart.

For an ensemble this is as fast as several cards can be. Folder ``seeds/<seed>`` of a run becomes a run of its own that
resumes by itself; ``seeds.json`` merges the results.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.config.stored import read_config
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.launch.processes import run_processes
from vpoc_ml.training.launch.run_inputs import drop_inputs, share_inputs


def train_seeds(run_dir: Path, seeds: Sequence[int], processes: int) -> dict[str, Any]:
    """Train the run's net once per seed and return what ``seeds.json`` then holds.

    Args:
        run_dir: run with config.json, training_set.parquet and feature_statistics.json.
        seeds: distinct values of ``training.seed``.
        processes: how many train at a time; one a card.

    Raises:
        InvalidValueError: no seeds, or one twice.
        MissingInputError: the run has no training set.
        VpocError: as training a seed raises; the others' checkpoints stay.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InvalidValueError("seeds", list(seeds), "one or more distinct numbers")
    folders = [_folder(run_dir, seed) for seed in seeds]
    processes = min(processes, len(folders))
    run_processes(["apart", *map(str, folders)], processes, folders)
    merged = merge(run_dir, folders)
    write_json(run_dir / "seeds.json", merged)
    for folder in folders:
        drop_inputs(folder)  # copies of the run would follow the links
    return merged


def _folder(run_dir: Path, seed: int) -> Path:
    """Make the folder of a seed; checkpoints that are there stay."""
    folder = run_dir / "seeds" / str(seed)
    config = read_config(run_dir)
    own = config.training.model_copy(update={"seed": seed, "processes": 1})
    share_inputs(folder, run_dir, config.model_copy(update={"training": own}))
    return folder


def merge(run_dir: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """Return each seed's result, their spread, and how well their mean prediction does on the validation rows.

    ``mean_correlation`` and ``correlations`` are with the target in the order of ranks: an ensemble is worth
    its cost where its mean beats its members.
    """
    results = {folder.name: json.loads((folder / "training_result.json").read_text()) for folder in folders}
    losses = {seed: result["best_validation_loss"] for seed, result in results.items()}
    rows = pl.read_parquet(run_dir / "training_set.parquet").filter(pl.col("split") == "validation")
    known = rows.filter(pl.col("y").is_finite() & (pl.col("weight") > 0))
    scores = [_scores(folder, known) for folder in folders]
    target = _ranks(known["y"].to_numpy())
    return {
        "seeds": [int(folder.name) for folder in folders],
        "validation_losses": losses,
        "spread": statistics.pstdev(losses.values()),
        "best": min(losses, key=lambda seed: losses[seed]),
        "correlations": dict(zip(losses, (_correlation(score, target) for score in scores), strict=True)),
        "mean_correlation": _correlation(np.mean(scores, axis=0), target),
        "models": {folder.name: str((folder / "best_model.json").relative_to(run_dir)) for folder in folders},
    }


def _scores(folder: Path, rows: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    model = load_model(folder / "best_model.json")
    return _ranks(model.predict(rows.select(model.features).to_numpy()))


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return pl.Series(values).rank().to_numpy() / len(values)


def _correlation(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float | None:
    if np.std(left) == 0 or np.std(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])
