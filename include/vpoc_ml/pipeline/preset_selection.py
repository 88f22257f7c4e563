"""How a candidate looks beside every preset that was tried for its key: the best of many trials is partly luck."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Selection
from vpoc_ml.errors import VpocError
from vpoc_ml.evaluation.session_scores import SKILL
from vpoc_ml.evaluation.significance import (
    deflated_sharpe,
    effective_trials,
    minimum_track_record,
    superiority,
)
from vpoc_ml.registry.store import ModelStore

log = logging.getLogger(__name__)

FEWEST = 20
"""Common sessions below which nothing is tested: the block length of the bootstrap cannot be estimated."""
NEWEST = 20
"""Presets that are compared, the most recently tried ones; each needs a local copy of its newest version."""


def selection(store: ModelStore, tried: Mapping[str, int], preset: str) -> Selection | None:
    """Return the tests over all presets on their common sessions; None with too few of these.

    Args:
        store: models of the candidate's key.
        tried: newest version of each preset, in the order of the first trial.
        preset: the candidate's.
    """
    own = _scores(store, tried[preset])
    if own is None:
        return None
    others = sorted((version for other, version in tried.items() if other != preset), reverse=True)[: NEWEST - 1]
    tables = {tried[preset]: own}
    tables |= {version: table for version in others if (table := _scores(store, version)) is not None}
    joined = pl.concat(
        [table.rename({name: f"{name}-{version}" for name in (SKILL, "net")}) for version, table in tables.items()],
        how="align_inner",
    ).fill_nan(None)
    if joined.height < FEWEST:
        return None
    ranks = joined.select(f"{SKILL}-{version}" for version in tables).fill_null(0.0).to_numpy()
    spa = superiority({str(version): column for version, column in zip(tables, ranks.T, strict=True)})
    net = joined.select(f"net-{version}" for version in tables).drop_nulls().to_numpy()
    sharpes = [column.mean() / column.std(ddof=1) for column in net.T if len(column) > 2 and np.ptp(column) > 0]
    traded = net[:, 0] if net.size else np.zeros(0)
    trials = effective_trials(net) if net.size else 1.0
    variance = float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    return Selection(
        presets=len(tried),
        compared=len(tables),
        sessions=joined.height,
        p_value=spa.p_value,
        superior=tuple(int(version) for version in spa.superior),
        effective_trials=trials,
        deflated_sharpe=_finite(deflated_sharpe(traded, trials, variance)),
        minimum_sessions=_finite(minimum_track_record(traded)),
    )


def _scores(store: ModelStore, version: int) -> pl.DataFrame | None:
    """Return session, skill and net of a version; None for a version of an earlier release, or one that was lost."""
    try:
        path = store.get(version).folder / layout.SESSION_SCORES
    except VpocError as error:
        log.warning("version %d is left out of the comparison of presets: %s", version, error)
        return None
    return pl.read_parquet(path, columns=["session", SKILL, "net"]) if path.is_file() else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
