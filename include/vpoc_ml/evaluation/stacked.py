"""The stack in a walk-forward evaluation: each week it is fitted on the predictions of earlier sessions.

Weights and slope are fitted anew each exchange week, like those of a model that is shipped each week. Earlier sessions
of the same fold count, because its model has not seen them. The validation sessions of a fold cannot choose
well: they have already stopped the network, so its scores look better there than on later sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import polars as pl

from vpoc_ml.artifacts.model_card import Stack
from vpoc_ml.evaluation.fold_predictions import PART
from vpoc_ml.evaluation.forecasts import CANDIDATE, Forecast, forecast_columns
from vpoc_ml.models.stacking import ENOUGH_SESSIONS, StackRows, apply_stack, fit_stack

STACK_SESSIONS = 250
"""Newest sessions on which weights and slope are fitted, about a year; more react later and cost more."""


def part_names(track: pl.DataFrame) -> tuple[str, ...]:
    """Return the names of the parts that a track record holds, in its order."""
    chosen = (name for name in track.columns if name.startswith(PART) and not name.endswith("_zero"))
    return tuple(name.removeprefix(PART) for name in chosen)


@dataclass(frozen=True)
class PartHistory:
    """Out-of-sample predictions of the parts of a model.

    Attributes:
        rows: scores and rank targets of the rows that have all parts.
        label_end: by session, the end of the last label of it and of all sessions before it (UTC).
    """

    rows: StackRows
    label_end: pl.Series

    @classmethod
    def of(cls, track: pl.DataFrame) -> PartHistory:
        """Read a track record, sorted by ts."""
        names = part_names(track)
        columns = [f"{PART}{name}" for name in names]
        whole = (pl.col(each).is_finite() for each in ("y", *columns))
        known = track.lazy().filter(*whole).select("session", "label_end", "y", *columns).collect()
        ends = known.group_by("session").agg(pl.col("label_end").max()).sort("session")
        session = known["session"].rank("dense").cast(pl.Int64).to_numpy()
        rows = StackRows.of(_columns(known, names), known["y"].to_numpy(), session, names)
        return cls(rows, ends["label_end"].cum_max())

    def stack_before(self, begin: datetime | None, delta: float, enough: int = ENOUGH_SESSIONS) -> Stack | None:
        """Fit a stack on the newest sessions whose labels all end before ``begin``.

        Args:
            begin: start of the first bar that the stack is for (UTC); None: after all sessions.
            delta: of the Huber loss, in rank units.
            enough: least number of sessions.

        Returns:
            The stack; None with fewer sessions.
        """
        end = self.rows.sessions if begin is None else int((self.label_end < begin).sum())
        if end < enough:
            return None
        return fit_stack(self.rows.between(max(end - STACK_SESSIONS, 0), end), delta)


def stack_after(track: pl.DataFrame, day: date, delta: float) -> Stack | None:
    """Return the stack for the session after ``day``, as ``stacked_track`` fits it at the begin of a week.

    Args:
        track: predictions of folds, sorted by ts.
        day: last session that is known.
        delta: of the Huber loss, in rank units.
    """
    begin = track.filter(pl.col("session") > day)["ts"].min()
    assert begin is None or isinstance(begin, datetime)
    return PartHistory.of(track.filter(pl.col("session") <= day)).stack_before(begin, delta)


def stacked_track(
    track: pl.DataFrame, delta: float, enough: int = ENOUGH_SESSIONS
) -> tuple[pl.DataFrame, dict[date, Stack]]:
    """Return a track record in which earlier sessions choose the stack of each week, and the stack of each session.

    A session without enough sessions before its week, or whose model lacks a part of the others, keeps its candidate.

    Args:
        track: predictions of all folds, sorted by ts, with the columns ``part_<name>``.
        delta: of the Huber loss, in rank units.
        enough: least number of sessions before a week.
    """
    names = part_names(track)
    if not names:
        return track, {}
    history, stacks, end = PartHistory.of(track), dict[date, Stack](), 0
    scores, zeros = (_columns(track, names, ending) for ending in ("", "_zero"))
    rank, zero_rank = (track[name].to_numpy().copy() for name in (CANDIDATE, f"{CANDIDATE}_zero"))
    for count in track["session"].dt.truncate("1w").rle().struct.field("len"):
        begin, end = end, end + count
        stack = history.stack_before(track["ts"][begin], delta, enough)
        if stack is not None:
            rows = begin + np.flatnonzero(np.isfinite(scores[:, begin:end]).all(axis=0))
            rank[rows] = apply_stack(stack, scores[:, rows])
            zero_rank[rows] = apply_stack(stack, zeros[:, rows])
            stacks |= dict.fromkeys(track["session"][rows].unique(maintain_order=True), stack)
    return track.with_columns(forecast_columns(Forecast(CANDIDATE, rank, zero_rank))), stacks


def _columns(
    track: pl.DataFrame, names: tuple[str, ...], ending: str = ""
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the columns of the parts, [parts, rows]; NaN where a fold has no such part."""
    wanted = track.select(pl.col(f"{PART}{name}{ending}").fill_null(float("nan")) for name in names)
    return np.ascontiguousarray(wanted.to_numpy().T)
