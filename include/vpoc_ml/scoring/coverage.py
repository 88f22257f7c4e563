"""Coverage: how many of the returns that are known by now lie in the interval of their prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from vpoc_ml.artifacts.stage_results import Coverage
from vpoc_ml.dataset.quantiles import interpolated_rank


def measure_coverage(
    scores: pl.DataFrame, labels: pl.DataFrame, target_quantiles: Sequence[float], sessions: int
) -> Coverage | None:
    """Return the coverage over the newest sessions with a label.

    Args:
        scores: predictions with intervals (``schemas.PREDICTIONS``); rows without one and rows that abstained do not
            count.
        labels: ts, contract and ``ret``, the log return that was predicted; NaN or null where it is not known.
        target_quantiles: quantiles 0, ..., 1 of the model's training returns.
        sessions: how many of the newest sessions count.

    Returns:
        The coverage; None while no return is known.
    """
    stated = scores.filter(pl.col("low").is_not_null() & ~pl.col("abstained"))
    known = stated.join(labels.filter(pl.col("ret").is_finite()), on=["ts", "contract"], how="inner")
    newest = known["session"].unique().sort().tail(sessions)
    rows = known.filter(pl.col("session").is_in(newest.implode()))
    if rows.is_empty():
        return None
    rank = interpolated_rank(rows["ret"].to_numpy(), np.asarray(target_quantiles))
    inside = (rank >= rows["low"].to_numpy()) & (rank <= rows["high"].to_numpy())
    return Coverage(share=float(inside.mean()), rows=rows.height, sessions=newest.len())
