"""The stack in a walk-forward evaluation: the predictions of earlier folds choose weights and slope of a fold.

The validation sessions of a fold cannot do it well: they have already stopped the network, so its scores look better
there than on later sessions.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from vpoc_ml.artifacts.model_card import Stack
from vpoc_ml.dataset.targets.base import MIDDLE
from vpoc_ml.evaluation.fold_predictions import PART
from vpoc_ml.evaluation.forecasts import CANDIDATE, Forecast, forecast_columns
from vpoc_ml.models.stacking import ENOUGH_SESSIONS, apply_stack, fit_stack, mix

STACK_SESSIONS = 500
"""Newest sessions on which weights and slope are fitted, about two years; more react later and cost more."""


def part_names(track: pl.DataFrame) -> tuple[str, ...]:
    """Return the names of the parts that a track record holds, in its order."""
    chosen = (name for name in track.columns if name.startswith(PART) and not name.endswith("_zero"))
    return tuple(name.removeprefix(PART) for name in chosen)


def earlier_stack(track: pl.DataFrame, begin: datetime, delta: float, enough: int = ENOUGH_SESSIONS) -> Stack | None:
    """Fit a stack on the rows of a track record whose labels end before ``begin``.

    Args:
        track: predictions of folds, sorted by ts.
        begin: start of the first bar that the stack is for (UTC).
        delta: of the Huber loss, in rank units.
        enough: least number of sessions.

    Returns:
        The stack; None with fewer sessions, or without parts.
    """
    names = part_names(track)
    if not names:
        return None
    columns = [f"{PART}{name}" for name in names]
    known = track.lazy().filter(pl.col("label_end") < begin, *(pl.col(each).is_finite() for each in columns))
    days = known.select(pl.col("session").unique().sort().tail(STACK_SESSIONS)).collect()["session"]
    if len(days) < enough:
        return None
    rows = known.filter(pl.col("session") >= days[0]).select("session", "y", *columns).collect()
    session = rows["session"].rank("dense").cast(pl.Int64).to_numpy()
    return fit_stack(_columns(rows, names), rows["y"].to_numpy(), session, names, MIDDLE, delta)


def stacked_track(
    track: pl.DataFrame, delta: float, enough: int = ENOUGH_SESSIONS
) -> tuple[pl.DataFrame, dict[str, Stack]]:
    """Return a track record in which earlier folds choose the stack of each fold, and the stacks by fold.

    A fold without enough sessions before it, or whose model has a single part, keeps its candidate.

    Args:
        track: predictions of all folds, sorted by ts, with the columns ``fold`` and ``part_<name>``.
        delta: of the Huber loss, in rank units.
        enough: least number of sessions before a fold.
    """
    names, stacks, folds = part_names(track), dict[str, Stack](), []
    for rows in track.partition_by("fold", maintain_order=True):
        begin = rows["ts"][0]
        scores, zeros = _columns(rows, names), _columns(rows, names, "_zero")
        stack = earlier_stack(track, begin, delta, enough)
        if stack is not None and np.isfinite(scores).all():
            weights = np.array([part.weight for part in stack.parts])
            candidate = Forecast(CANDIDATE, apply_stack(stack, scores), mix(zeros, weights, stack.slope))
            stacks[rows["fold"][0]] = stack
            rows = rows.with_columns(forecast_columns(candidate))
        folds.append(rows)
    return pl.concat(folds), stacks


def _columns(
    track: pl.DataFrame, names: tuple[str, ...], ending: str = ""
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the columns of the parts, [parts, rows]; NaN where a fold has no such part."""
    wanted = track.select(pl.col(f"{PART}{name}{ending}").fill_null(float("nan")) for name in names)
    return np.ascontiguousarray(wanted.to_numpy().T)
