"""Train the same run with several seeds, one process per GPU.

The processes do not communicate, so a fault of one GPU does not reach the others. Folder ``seeds/<seed>`` of a run is
a run of its own, which resumes by itself; ``seeds.json`` holds the comparison of the seeds.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts import training_files as files
from vpoc_ml.artifacts.studies import SeedComparison
from vpoc_ml.artifacts.training_progress import ProgressRecord
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.atomic import read_json, write_json
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.hardware.device import WORKER_VARIABLE
from vpoc_ml.training.launch.run_inputs import drop_inputs, share_inputs
from vpoc_ml.training.launch.subprocess import launch

SeedProgress = Callable[[str, ProgressRecord], None]
"""Receives the name of a seed's folder and a progress record of it."""


def train_seeds(
    run_dir: Path, seeds: Sequence[int], processes: int, on_progress: SeedProgress = lambda folder, record: None
) -> SeedComparison:
    """Train the run once per seed and return the content of ``seeds.json``.

    An error of one seed ends the other processes at their next progress record; their checkpoints stay.

    Args:
        run_dir: run with config.json, training_set.parquet and feature_statistics.json.
        seeds: distinct values of ``training.seed``.
        processes: number of processes that train at the same time; each takes a GPU of its own where there are enough.
        on_progress: receives the seed as text and each progress record. Calls never overlap.

    Raises:
        InvalidValueError: no seeds, or a seed that occurs twice.
        MissingInputError: the run has no training set.
        VpocError: what training a seed raises.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InvalidValueError("seeds", list(seeds), "one or more distinct numbers")
    config, folders = read_config(run_dir), [run_dir / files.SEEDS / str(seed) for seed in seeds]
    for folder, seed in zip(folders, seeds, strict=True):  # a checkpoint that is there stays
        own = config.training.model_copy(update={"seed": seed})
        share_inputs(folder, run_dir, config.model_copy(update={"training": own}))
    _SeedWorkers(folders, min(processes, len(folders)), on_progress).train()
    comparison = compare_seeds(run_dir, folders)
    write_json(run_dir / files.SEEDS_RESULT, comparison.to_json())
    for folder in folders:
        drop_inputs(folder)  # copies of the run would follow the links
    return comparison


class _Stopped(Exception):
    """Ends a training process because another one raised an error."""


class _SeedWorkers:
    """Trains folders in ``processes`` processes; worker w takes every ``processes``-th folder from number w on."""

    def __init__(self, folders: Sequence[Path], processes: int, on_progress: SeedProgress) -> None:
        self.folders, self.processes, self.on_progress = folders, processes, on_progress
        self.stop, self.reporting = threading.Event(), threading.Lock()

    def train(self) -> None:
        """Train all folders; raise the error of the first worker that failed once all processes have ended."""
        with ThreadPoolExecutor(self.processes) as pool:
            try:
                errors = list(pool.map(self._work, range(self.processes)))
            finally:  # also when the caller is interrupted
                self.stop.set()
        for error in filter(None, errors):
            raise error

    def _work(self, worker: int) -> Exception | None:
        try:
            for folder in self.folders[worker :: self.processes]:
                if not self.stop.is_set():
                    report = partial(self._report, folder.name)
                    launch(folder, on_progress=report, environment={WORKER_VARIABLE: str(worker)})
        except _Stopped:
            return None
        except Exception as error:  # noqa: BLE001 - ``train`` raises it
            self.stop.set()
            return error
        return None

    def _report(self, folder: str, record: ProgressRecord) -> None:
        if self.stop.is_set():
            raise _Stopped
        with self.reporting:
            self.on_progress(folder, record)


def compare_seeds(run_dir: Path, folders: Sequence[Path]) -> SeedComparison:
    """Return each seed's result, their spread, and how their mean prediction performs on the validation rows.

    ``mean_correlation`` and ``correlations`` are rank correlations with the target. An ensemble is worth its cost
    where the correlation of the mean exceeds those of the seeds.
    """
    results = {folder.name: read_json(folder / files.TRAINING_RESULT) for folder in folders}
    losses = {seed: result["best_validation_loss"] for seed, result in results.items()}
    rows = pl.read_parquet(run_dir / files.TRAINING_SET).filter(pl.col("split") == "validation")
    labelled = rows.filter(pl.col("y").is_finite() & (pl.col("weight") > 0))
    scores = []
    for folder in folders:
        model = load_model(folder / files.BEST_MODEL_CARD)
        scores.append(_ranks(model.predict(labelled.select(model.features).to_numpy())))
    target = _ranks(labelled["y"].to_numpy())
    return SeedComparison(
        seeds=tuple(int(folder.name) for folder in folders),
        validation_losses=losses,
        spread=statistics.pstdev(losses.values()),
        best=min(losses, key=lambda seed: losses[seed]),
        correlations=dict(zip(losses, (_correlation(score, target) for score in scores), strict=True)),
        mean_correlation=_correlation(np.mean(scores, axis=0), target),
        models={folder.name: str((folder / files.BEST_MODEL_CARD).relative_to(run_dir)) for folder in folders},
    )


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return pl.Series(values).rank().to_numpy() / len(values)


def _correlation(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> float | None:
    """Return the correlation; None where one side is constant."""
    if np.std(left) == 0 or np.std(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])
