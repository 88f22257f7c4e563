"""Coverage: how many of the returns that are known by now lie in the interval of their prediction.

A new model has few scores. The newest sessions of its track record then count as well, with intervals from the errors
of the sessions before them, as if they had been scored at the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from vpoc_ml.artifacts.stage_results import Coverage
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.evaluation.conformal import interval_offsets, residual_quantiles
from vpoc_ml.evaluation.forecasts import CANDIDATE


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


def measure_track_coverage(track: pl.DataFrame, stated: float, sessions: int) -> Coverage | None:
    """Return the coverage over the newest sessions of a track record, at most half of them.

    Args:
        track: session, ``y`` and ``candidate`` of out-of-sample predictions, ranks.
        stated: ``scoring.coverage``.
        sessions: how many of the newest sessions count.

    Returns:
        The coverage; None with fewer than two sessions, or where no session is wanted.
    """
    days = track["session"].unique().sort()
    newest = days.tail(min(sessions, days.len() // 2))
    if newest.is_empty():
        return None
    errors = track.select("session", error=pl.col("y") - pl.col(CANDIDATE)).filter(pl.col("error").is_finite())
    later = pl.col("session") >= newest[0]
    low, high = interval_offsets(residual_quantiles(errors.filter(~later)["error"].to_numpy()), stated)
    measured = errors.filter(later)["error"]
    if measured.is_empty():
        return None
    share = float(measured.is_between(low, high).mean())  # type: ignore[arg-type]
    return Coverage(share=share, rows=measured.len(), sessions=newest.len(), track_sessions=newest.len())


def joined_coverage(parts: Iterable[Coverage | None]) -> Coverage | None:
    """Return the coverage over all rows of the parts; None where there are none."""
    known = [part for part in parts if part is not None]
    rows = sum(part.rows for part in known)
    if not rows:
        return None
    return Coverage(
        share=sum(part.rows * part.share for part in known) / rows,
        rows=rows,
        sessions=sum(part.sessions for part in known),
        track_sessions=sum(part.track_sessions for part in known),
    )
