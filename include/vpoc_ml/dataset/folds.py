"""Folds of the walk-forward evaluation: consecutive periods of test sessions, each with the sessions before it.

Boundaries depend only on sessions before them, so one more night never moves a boundary: it lengthens the newest fold
or begins a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import numpy as np
import polars as pl

from vpoc_ml.artifacts.track_record import LabelledSession
from vpoc_ml.config import DatasetConfig, EvaluationConfig
from vpoc_ml.dataset.row_runs import take_runs
from vpoc_ml.dataset.splits import LARGEST, MIN_PART_SESSIONS
from vpoc_ml.errors import InvalidValueError

KEPT_BY_ROW = ("ts", "contract", "session")


@dataclass(frozen=True)
class FoldSessions:
    """Sessions of one fold in order of time. The sessions between the parts are embargoed."""

    name: str
    train: tuple[date, ...]
    validation: tuple[date, ...]
    test: tuple[date, ...]


def plan_folds(
    sessions: Sequence[LabelledSession], dataset: DatasetConfig, evaluation: EvaluationConfig
) -> tuple[FoldSessions, ...]:
    """Cut the usable sessions into folds, oldest first.

    The first ``evaluation.min_history_sessions`` sessions are history only. From there on every session is a test
    session of one fold. A fold ends with its contract, or after N sessions. The window of a fold ends
    ``gap_sessions`` before its first test session and holds all earlier sessions, or the last
    ``dataset.history_sessions`` of them. The newest sessions of the window are validation sessions, in the proportion
    of ``dataset.validation_share`` to ``dataset.train_share``, after another gap.

    Args:
        sessions: in order of time.
        dataset: settings of the window.
        evaluation: settings of the folds; with ``fold`` = "off" there are none.
    """
    if evaluation.fold == "off":
        return ()
    days, first = [each.session for each in sessions], first_test_session(dataset, evaluation)
    if evaluation.fold == "contract":
        periods = [list(group) for _, group in groupby(range(first, len(days)), lambda at: sessions[at].contract)]
    else:
        length = int(evaluation.fold)
        periods = [list(range(at, min(at + length, len(days)))) for at in range(first, len(days), length)]
    folds = []
    for period in periods:
        begin, train, validation = _window(period[0], dataset)
        name = sessions[period[0]].contract if evaluation.fold == "contract" else days[period[0]].isoformat()
        end = period[0] - gap_sessions(dataset)
        parts = (days[begin : begin + train], days[end - validation : end], [days[at] for at in period])
        folds.append(FoldSessions(name, *map(tuple, parts)))
    return tuple(folds)


def first_test_session(dataset: DatasetConfig, evaluation: EvaluationConfig) -> int:
    """Return how many usable sessions lie before the first test session.

    ``evaluation.min_history_sessions``, or more where the gaps leave fewer than three training sessions.

    Raises:
        InvalidValueError: ``dataset.history_sessions`` leaves fewer than three training sessions, or the shares do in
            every window.
    """
    gap, least = gap_sessions(dataset), _shortest_window(dataset)
    if 0 < dataset.history_sessions < least:
        train, validation = _parts(least, dataset)
        expected = f"0 (all), or at least {least}: {train} for training, a gap of {gap} and {validation} for validation"
        raise InvalidValueError("dataset.history_sessions", dataset.history_sessions, expected)
    return max(evaluation.min_history_sessions, least + gap)


def _shortest_window(dataset: DatasetConfig) -> int:
    """Return the smallest number of sessions of a window with three training sessions; every larger one has them too.

    Raises:
        InvalidValueError: the shares and the gap need more than ``LARGEST`` sessions.
    """
    for length in range(2 * MIN_PART_SESSIONS, LARGEST + 1):
        if _parts(length, dataset)[0] >= MIN_PART_SESSIONS:
            return length
    shares = f"{dataset.train_share:g}, and dataset.validation_share {dataset.validation_share:g}"
    expected = f"shares that leave {MIN_PART_SESSIONS} training sessions in a window of {LARGEST}"
    raise InvalidValueError("dataset.train_share", shares, expected)


def _window(before: int, dataset: DatasetConfig) -> tuple[int, int, int]:
    """Return begin, training and validation sessions of a window with ``before`` sessions before the test sessions."""
    gap = gap_sessions(dataset)
    length = before - gap
    if dataset.history_sessions:
        length = min(length, dataset.history_sessions)
    return before - gap - length, *_parts(length, dataset)


def _parts(length: int, dataset: DatasetConfig) -> tuple[int, int]:
    """Return training and validation sessions of a window of ``length`` sessions; the gap lies between them."""
    share = dataset.validation_share / (dataset.train_share + dataset.validation_share)
    validation = max(MIN_PART_SESSIONS, round(share * length))
    return length - validation - gap_sessions(dataset), validation


def gap_sessions(dataset: DatasetConfig) -> int:
    """Return the sessions between two parts: the embargo, or the label's sessions where they are more.

    A label over n sessions ends n sessions later. With n sessions between two parts every label of the first part ends
    before the first row of the second one, so no row has to be purged.
    """
    sessions = dataset.horizon.later_sessions
    return max(dataset.embargo_sessions, sessions)


def window_rows(rows: pl.DataFrame, train: tuple[date, date], validation: tuple[date, date]) -> pl.DataFrame:
    """Return the rows of a fold's window with ``split``, train or validation. Gaps and test sessions are left out.

    Args:
        rows: the frame of ``assemble.label_rows``.
        train: first and last training session.
        validation: first and last validation session.
    """
    in_train, in_validation = (rows["session"].is_between(*part) for part in (train, validation))
    split = pl.when(pl.col("session").is_between(*train)).then(pl.lit("train")).otherwise(pl.lit("validation"))
    return take_runs(rows, in_train | in_validation).with_columns(split=split)


def labelled_sessions(rows: pl.DataFrame) -> tuple[LabelledSession, ...]:
    """Return the sessions of labelled rows with a hash of all their values.

    The hash covers timestamps, labels, prices and features of a session. It changes when any value of the session
    changes, and with the set of columns, but not with other sessions.

    Args:
        rows: the frame of ``assemble.label_rows``, sorted by ts.
    """
    columns = [name for name in rows.columns if name not in KEPT_BY_ROW]
    if not rows["session"].is_sorted():
        rows = rows.sort("session", maintain_order=True)
    values = rows.select(pl.col("ts", *columns).to_physical())  # once: for each column of a session it takes a second
    found, start = [], 0
    for length in rows["session"].rle().struct.field("len"):
        part = rows.slice(start, length)
        digest = hashlib.sha256("\n".join(columns).encode())
        digest.update(part["contract"][0].encode())
        for column in values.slice(start, length).iter_columns():
            digest.update(np.ascontiguousarray(column.to_numpy()).tobytes())
        start += length
        session, contract = part["session"][0], part["contract"][0]
        found.append(
            LabelledSession(session=session, contract=contract, rows=part.height, digest=digest.hexdigest()[:16])
        )
    return tuple(found)
