"""Defects of the training rows by column, reported before the first step.

The input guard tolerates all of them. A defective column still costs the model its information.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.training_result import ColumnReport, PreflightReport

EPSILON_RATIO = 1e8  # what x / (y + 1e-8) makes of a y that is sometimes 0
HALF_LARGEST = 65_504.0  # largest finite float16
SAMPLED_ROWS = 65_536
log = logging.getLogger(__name__)


def preflight(train: pl.DataFrame, features: list[str], target: str, batch: int) -> PreflightReport:
    """Return the defects of the training rows and log a warning for each column that has one.

    Non-finite values are counted in rows. The expected share of batches that hold such a row, 1 - (1 - p)^batch,
    depends mostly on the batch size.

    Args:
        train: columns ``features`` and ``target``, raw.
        features: names of the model's inputs.
        target: name of the target's column.
        batch: rows of a step.
    """
    complete = np.ones(train.height, dtype=bool)
    columns: dict[str, ColumnReport] = {}
    for name in features:
        values = train[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
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
        rows=train.height,
        nonfinite_rows=int((~complete).sum()),
        nonfinite_row_share=share,
        nonfinite_batch_share=1 - (1 - share) ** batch,
        unlabelled_rows=int((~train[target].is_finite().fill_null(False)).sum()),
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
