"""Chronological split by session, with an embargo between the splits and purged labels.

A run may also use only the first share of its history.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import polars as pl

from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.row_runs import chunked_like, take_runs
from vpoc_ml.errors import InsufficientSessionsError, InvalidValueError

SPLITS = ("train", "validation", "test")
MIN_PART_SESSIONS = 3
"""Sessions that each split of an evaluated run needs, because every interval comes from resampling sessions."""
LARGEST = 5000
"""Upper limit of ``dataset.min_sessions``, about twenty years."""
_MORE = "deliver longer files or earlier contracts, choose features with a shorter warm-up (features.names), or change"
ONE_SPLIT_REMEDY = f"{_MORE} dataset.min_sessions, dataset.embargo_sessions or the shares"
"""What to do about too few sessions where a run evaluates on one split."""
REMEDY = (
    f"{_MORE} dataset.min_sessions, dataset.embargo_sessions, the shares or evaluation.min_history_sessions;"
    " evaluation.fold=off evaluates on one split"
)
"""What to do about too few sessions where a run has folds."""


@dataclass(frozen=True)
class SessionSplit:
    """Sessions of each split in order of time. Embargoed sessions are in none of them."""

    train: tuple[date, ...]
    validation: tuple[date, ...]
    test: tuple[date, ...]


def split_sessions(sessions: list[date], config: DatasetConfig) -> SessionSplit:
    """Cut the sessions into train, validation and test, oldest first.

    ``embargo_sessions`` sessions are dropped after train and again after validation. The shares refer to the remaining
    sessions. Without the embargo the last rows of one split and the first rows of the next would share feature
    windows, and the validation result would be too good.

    Raises:
        InsufficientSessionsError: fewer sessions than ``sessions_needed``.
    """
    ordered = sorted(set(sessions))
    needed = sessions_needed(config)
    if len(ordered) < needed:
        raise InsufficientSessionsError(
            "a training set, after the features' warm-up",
            len(ordered),
            needed,
            explain_sessions_needed(config),
            ONE_SPLIT_REMEDY,
        )
    train, validation = _sizes(len(ordered), config)
    second = train + config.embargo_sessions
    third = second + validation + config.embargo_sessions
    return SessionSplit(tuple(ordered[:train]), tuple(ordered[second : second + validation]), tuple(ordered[third:]))


def sessions_needed(config: DatasetConfig, least: int = 1) -> int:
    """Return the smallest number of usable sessions that gives every split ``least`` sessions.

    It is at least ``min_sessions``. Every larger number is sufficient too. That is not obvious, because rounding can
    take a session from a split when one is added. A training set needs one session per split, its evaluation
    ``MIN_PART_SESSIONS``.

    Raises:
        InvalidValueError: the shares and the embargo would need more than ``LARGEST`` sessions.
    """
    count = LARGEST
    train, validation = _sizes(count, config)
    while min(train, validation, count - 2 * config.embargo_sessions - train - validation) >= least:
        count -= 1
        train, validation = _sizes(count, config)
    if count == LARGEST:
        shares = f"{config.train_share:g}, and dataset.validation_share {config.validation_share:g}"
        expected = f"shares that leave {least} sessions each to training, validation and test out of {LARGEST}"
        raise InvalidValueError("dataset.train_share", shares, expected)
    return max(config.min_sessions, count + 1)


def explain_sessions_needed(config: DatasetConfig, least: int = 1) -> str:
    """Explain the result of ``sessions_needed`` in words."""
    count, embargo = sessions_needed(config, least), config.embargo_sessions
    train, validation = _sizes(count, config)
    parts = f"{train} + {validation} + {count - 2 * embargo - train - validation}"
    reason = (
        f"dataset.min_sessions is {count}"
        if count == config.min_sessions
        else f"dataset.train_share {config.train_share:g}, dataset.validation_share {config.validation_share:g},"
        f" at least {least} each"
    )
    embargoes = f"2 embargoes of {embargo} session{'' if embargo == 1 else 's'}"
    return f"{count - 2 * embargo} sessions of training, validation and test ({parts}: {reason}) + {embargoes}"


def split_rows(rows: pl.DataFrame, split: SessionSplit) -> pl.DataFrame:
    """Add ``split`` to rows (ts, session, label_end, ...); drop embargoed and purged rows.

    A row of train or validation is purged if its label ends at or after the first row of the next split. Neither rule
    reads the value of the label, so the choice of rows does not depend on it. The rows stay in their order.
    """
    inside = {
        name: pl.col("session").is_in(pl.Series(list(getattr(split, name)), dtype=pl.Date).implode()) for name in SPLITS
    }
    begins = rows.select(pl.col("ts").filter(each).min().alias(name) for name, each in inside.items()).row(
        0, named=True
    )
    for name, following in pairwise(SPLITS):
        inside[name] &= pl.col("label_end") < begins[following]
    named = pl.coalesce(pl.when(each).then(pl.lit(name)) for name, each in inside.items())
    names = rows.select(split=named)["split"]
    kept = names.is_not_null()
    chosen = take_runs(rows, kept)
    return chosen.with_columns(chunked_like(names.filter(kept), chosen))


def _sizes(count: int, config: DatasetConfig) -> tuple[int, int]:
    """Return the sessions of train and validation out of ``count``."""
    kept = count - 2 * config.embargo_sessions
    return round(kept * config.train_share), round(kept * config.validation_share)


def first_sessions(front: pl.DataFrame, sessions: Mapping[str, pl.Series], share: float) -> pl.DataFrame:
    """Return the front periods cut after the first ``share`` of their sessions, at least one.

    Args:
        front: contract, first_session, last_session (inclusive Dates).
        sessions: per contract the session of each of its rows, Date.
        share: in (0, 1]; 1 returns ``front`` as it is.
    """
    if share >= 1:
        return front
    known = sorted(
        {
            day
            for period in front.iter_rows(named=True)
            for day in sessions[period["contract"]].unique()
            if period["first_session"] <= day <= period["last_session"]
        }
    )
    if not known:
        return front
    last = known[max(1, math.ceil(share * len(known))) - 1]
    kept = front.filter(pl.col("first_session") <= last)
    return kept.with_columns(pl.min_horizontal("last_session", pl.lit(last)))
