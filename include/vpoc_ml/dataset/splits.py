"""Chronological split by session, with an embargo between the parts and purged label overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from vpoc_ml.config import DatasetConfig
from vpoc_ml.errors import InsufficientSessionsError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SessionSplit:
    """Sessions of each part, in order of time. Embargoed sessions are in none of them."""

    train: tuple[date, ...]
    validation: tuple[date, ...]
    test: tuple[date, ...]


def split_sessions(sessions: list[date], config: DatasetConfig) -> SessionSplit:
    """Cut the sessions into train, validation and test, oldest first.

    ``embargo_sessions`` whole sessions are dropped after train and again after validation; the shares
    are of the sessions that remain. Without the embargo the last rows of one part and the first of the
    next share their long feature windows, and validation looks better than the future will be.

    Raises:
        InsufficientSessionsError: fewer sessions than ``min_sessions`` or than three non-empty parts need.
    """
    ordered = sorted(set(sessions))
    needed = sessions_needed(config)
    if len(ordered) < needed:
        why = f"min_sessions {config.min_sessions}, two embargoes of {config.embargo_sessions}, three parts"
        raise InsufficientSessionsError("a training set, after the features' warm-up", len(ordered), needed, why)
    train, validation = _sizes(len(ordered), config)
    second = train + config.embargo_sessions
    third = second + validation + config.embargo_sessions
    return SessionSplit(tuple(ordered[:train]), tuple(ordered[second : second + validation]), tuple(ordered[third:]))


def sessions_needed(config: DatasetConfig) -> int:
    """Return the smallest number of usable sessions that makes a training set."""
    count = max(config.min_sessions, 2 * config.embargo_sessions + len(SPLITS))
    while not _fills_all_parts(count, config):
        count += 1
    return count


def split_rows(rows: pl.DataFrame, split: SessionSplit) -> pl.DataFrame:
    """Add ``split`` to rows (ts, session, label_end, ...); drop embargoed and purged rows.

    A row of train or validation is purged when its label ends at or after the first row of the next
    part. Neither rule looks at the label's value: which rows are evaluated never depends on it.
    """
    parts = []
    for name in SPLITS:
        days = pl.Series(list(getattr(split, name)), dtype=pl.Date)
        parts.append(rows.filter(pl.col("session").is_in(days.implode())).with_columns(split=pl.lit(name)))
    for index, following in enumerate(parts[1:]):
        parts[index] = parts[index].filter(pl.col("label_end") < following["ts"].min())
    return pl.concat(parts)


def _sizes(count: int, config: DatasetConfig) -> tuple[int, int]:
    """Sessions of train and validation out of ``count``."""
    kept = count - 2 * config.embargo_sessions
    return round(kept * config.train_share), round(kept * config.validation_share)


def _fills_all_parts(count: int, config: DatasetConfig) -> bool:
    train, validation = _sizes(count, config)
    return train >= 1 and validation >= 1 and count - 2 * config.embargo_sessions - train - validation >= 1
