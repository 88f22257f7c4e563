"""The training set on the device: guarded once, targets masked, shuffled by (seed, epoch).

``preflight`` reports defects of the training rows by column before the first step. The input guard tolerates all of
them. A defective column still costs the model its information.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.artifacts.training_files import TRAINING_SET
from vpoc_ml.artifacts.training_result import ColumnReport, PreflightReport
from vpoc_ml.dataset.scalers import Scaler, scaler_from_json
from vpoc_ml.errors import ArtifactError, MissingInputError, NoLabelledRowsError
from vpoc_ml.models.build import starting_outputs
from vpoc_ml.models.guard import Guard
from vpoc_ml.training.loop.objective import mask_targets

EPSILON_RATIO = 1e8  # what x / (y + 1e-8) makes of a y that is sometimes 0
HALF_LARGEST = 65_504.0  # largest finite float16
SAMPLED_ROWS = 65_536
Raw = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


def preflight(raw: Raw, target: Raw, features: Sequence[str], batch: int) -> PreflightReport:
    """Return the defects of the training rows and log a warning for each column that has one.

    Non-finite values are counted in rows. The expected share of batches that hold such a row, 1 - (1 - p)^batch,
    depends mostly on the batch size.

    Args:
        raw: inputs before scaler and guard, [rows, features]; NaN where there is none.
        target: [rows]; NaN where there is none.
        features: names of the inputs.
        batch: rows of a step.
    """
    complete = np.ones(len(raw), dtype=bool)
    columns: dict[str, ColumnReport] = {}
    for index, name in enumerate(features):
        values = raw[:, index].astype(np.float64)
        finite = np.isfinite(values)
        complete &= finite
        problems = column_problems(values[finite])
        share = float(1 - finite.mean())
        if problems or share:
            columns[name] = ColumnReport(nonfinite_share=share, problems=tuple(problems))
            log.warning(
                "preflight: %s: %.3g of the rows not finite%s", name, share, "".join(f"; {p}" for p in problems)
            )
    share = float(1 - complete.mean())
    return PreflightReport(
        rows=len(raw),
        nonfinite_rows=int((~complete).sum()),
        nonfinite_row_share=share,
        nonfinite_batch_share=1 - (1 - share) ** batch,
        unlabelled_rows=int((~np.isfinite(target)).sum()),
        columns=columns,
    )


def column_problems(finite: npt.NDArray[np.float64]) -> list[str]:
    """Return the defects of the finite values of a column; quartiles are those of at most 65,536 rows."""
    if finite.size == 0:
        return ["no finite value"]
    least, most = float(finite.min()), float(finite.max())
    if least == most:
        return [f"constant {least:g}"]
    sample = finite[:: -(-finite.size // SAMPLED_ROWS)]
    quartiles, largest = np.percentile(sample, (25, 75)), max(abs(least), abs(most))
    usual = float(np.median(np.abs(sample[sample != 0]))) if (sample != 0).any() else 0.0
    problems = []
    if quartiles[0] == quartiles[1]:
        problems.append("interquartile range 0: the guard falls back to wider percentiles")
    if largest > EPSILON_RATIO * usual:
        problems.append(
            f"largest value {largest:.3g} is over 1e8 times the usual: a ratio with a vanishing denominator?"
        )
    if largest > HALF_LARGEST:
        problems.append(f"largest value {largest:.3g} is beyond float16")
    return problems


READ_ROWS = 262_144
"""Rows read at a time: a row group of the file."""
GUARD_ROWS = 65_536
MONITOR_ROWS = 65_536


@dataclass(frozen=True)
class Rows:
    """Guarded inputs [rows, features], targets [rows] and weights [rows], float32 on the device."""

    inputs: Tensor
    target: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, which: slice | Tensor) -> Rows:
        return Rows(self.inputs[which], self.target[which], self.weight[which])


@dataclass(frozen=True)
class TrainingData:
    """Rows of both splits and the defects found in the training rows.

    ``start`` holds the outputs of the constant prediction that a network has to beat.
    """

    train: Rows
    validation: Rows
    start: tuple[float, ...] = (0.5,)
    preflight: PreflightReport = field(default_factory=PreflightReport)


@dataclass(frozen=True)
class Preparation:
    """What turns rows of a training set into a network's inputs and targets."""

    features: list[str]
    target_column: str
    scaler: Scaler | None
    guard: Guard

    @classmethod
    def of(cls, statistics: FeatureStatistics, guard: Guard) -> Preparation:
        """Read it from ``feature_statistics.json``: without a target there it is the rank ``y``."""
        scaler = None if statistics.scaler is None else scaler_from_json(statistics.scaler)
        column = "y" if statistics.target is None else "target"
        return cls(list(statistics.features), column, scaler, guard.cpu())

    def inputs(self, raw: Raw) -> Tensor:
        """Return guarded inputs [rows, features] of raw features."""
        return self.guard(torch.from_numpy(raw if self.scaler is None else self.scaler.apply(raw)))  # type: ignore[no-any-return]


def load(
    run_dir: Path,
    statistics: FeatureStatistics,
    guard: Guard,
    device: torch.device,
    batch: int = 1,
    *,
    refit: bool = False,
) -> TrainingData:
    """Read ``training_set.parquet`` of a run with its ``feature_statistics.json``.

    A refit has no validation rows: its newest training rows take their place. They show whether the network is alive;
    their loss says nothing about new rows and stops nothing.

    Scaler and guard have no parameters, so applying them to all rows once gives the network the same
    inputs as applying them in every step.

    Raises:
        MissingInputError: the file does not exist.
        ArtifactError: columns are missing.
        NoLabelledRowsError: a split has no row with a target.
    """
    path = run_dir / TRAINING_SET
    if not path.is_file():
        raise MissingInputError(path, "a training set", "Build the training set first.")
    preparation = Preparation.of(statistics, guard)
    features = preparation.features
    columns = ["split", preparation.target_column, "weight", *features]
    absent = sorted(set(columns) - set(pl.read_parquet_schema(path)))
    if absent:
        raise ArtifactError(path, f"the columns {', '.join(columns)}", f"no {', '.join(absent)}")
    parts = _read(path, preparation, ("train",) if refit else ("train", "validation"))
    report = preflight(*parts["train"][:2], features, batch)
    rows = {name: _rows(part, name, preparation, device) for name, part in parts.items()}
    held = rows["validation"] if not refit else rows["train"][-MONITOR_ROWS:]
    return TrainingData(rows["train"], held, starting_outputs(statistics), report)


def _read(path: Path, preparation: Preparation, names: Sequence[str]) -> dict[str, tuple[Raw, Raw, Raw]]:
    """Return raw inputs [rows, features], target [rows] and weight [rows] of each split, NaN where a value is null.

    The rows are read a row group at a time into arrays of their final size.
    """
    split = pl.read_parquet(path, columns=["split"])["split"]
    counts = {name: int((split == name).sum()) for name in names}
    raw = {name: np.empty((rows, len(preparation.features)), dtype=np.float32) for name, rows in counts.items()}
    keys = {name: np.empty((rows, 2), dtype=np.float32) for name, rows in counts.items()}
    done = dict.fromkeys(names, 0)
    key_columns = (preparation.target_column, "weight")
    numbers = pl.col(*key_columns, *preparation.features).cast(pl.Float32).fill_null(float("nan"))
    stored = pl.scan_parquet(path).select("split", numbers)
    for start in range(0, split.len(), READ_ROWS):
        block = stored.slice(start, READ_ROWS).collect()
        for name in names:
            part = block.filter(pl.col("split") == name)
            into = slice(done[name], done[name] + part.height)
            raw[name][into] = part.select(preparation.features).to_numpy()
            keys[name][into] = part.select(key_columns).to_numpy()
            done[name] = into.stop
    return {name: (raw[name], *np.ascontiguousarray(keys[name].T)) for name in names}


def _rows(part: tuple[Raw, Raw, Raw], name: str, preparation: Preparation, device: torch.device) -> Rows:
    """Return the rows of a split on the device; on a CPU the guarded inputs take the place of the raw ones."""
    raw = part[0]
    target, weight = mask_targets(*map(torch.from_numpy, part[1:]))
    if not bool((weight > 0).any()):
        raise NoLabelledRowsError(name)
    inputs = torch.from_numpy(raw)
    for start in range(0, len(raw), GUARD_ROWS):
        block = slice(start, start + GUARD_ROWS)
        inputs[block] = preparation.inputs(raw[block])
    return Rows(inputs.to(device), target.to(device), weight.to(device))


def epoch_order(rows: int, seed: int, epoch: int, stride: int = 1) -> Tensor:
    """Return the numbers of the rows of an epoch in its order: a function of (seed, epoch), so it needs no storing.

    An epoch has one row in ``stride``, the next epoch the rows after those; the number of rows is the same in each.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(rows // stride, generator=generator) * stride + epoch % stride
