"""One score per session: how far the candidate is ahead of a model without skill, each baseline and the champion.

All tests of significance read these scores. Above 0 the candidate is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from vpoc_ml.artifacts.metrics import Comparison
from vpoc_ml.evaluation.forecasts import CANDIDATE, Floats
from vpoc_ml.evaluation.metrics import SessionSums, ratio
from vpoc_ml.evaluation.sequential import CLIP, bounded, log_wealth, lower_bound
from vpoc_ml.evaluation.significance import diebold_mariano

SKILL = "skill"
"""Column of the candidate's rank IC; that of a model without skill is 0."""
CONSTANT = "constant"
"""The constant is compared by its Huber loss, every other model by direction accuracy."""


def daily_rank_ic(session: pl.Series, score: Floats, returns: Floats) -> pl.DataFrame:
    """Return session, ``skill``: Spearman's correlation of scores and returns (n,) within each session, sorted.

    NaN where either does not vary. Ranks within the session, not over all rows: a score must not change when a later
    session is added.
    """
    ranks = pl.DataFrame({"session": session, "score": score, "ret": returns}).with_columns(
        pl.col("score", "ret").rank().over("session")
    )
    return ranks.group_by("session").agg(pl.corr("score", "ret").alias(SKILL)).sort("session")


def session_gains(sums: Mapping[str, SessionSums]) -> dict[str, Floats]:
    """Return by rival what the candidate gains over it in each session, (sessions,); NaN without a row that moved."""
    candidate, gains = sums[CANDIDATE], {}
    for name, rival in sums.items():
        if name == CANDIDATE:
            continue
        if name == CONSTANT and candidate.huber is not None and rival.huber is not None:
            gains[name] = ratio(rival.huber) - ratio(candidate.huber)
        else:
            gains[name] = ratio(candidate.accuracy) - ratio(rival.accuracy)
    return gains


def compared(scores: pl.DataFrame, horizon: int) -> dict[str, Comparison]:
    """Return the evidence in each column of session scores.

    Args:
        scores: session, then one Float64 column per comparison; NaN or null where a session has none.
        horizon: sessions that a label covers: 1 unless it ends in a later session.
    """
    found = {}
    for name in scores.columns[1:]:
        values = scores[name].fill_null(math.nan).to_numpy()
        finite = values[np.isfinite(values)]
        bets = bounded(values, horizon)
        statistic, p_value = diebold_mariano(finite, horizon)
        found[name] = Comparison(
            measure={SKILL: "rank IC", CONSTANT: "Huber loss"}.get(name, "direction accuracy"),
            sessions=len(finite),
            mean=float(finite.mean()) if len(finite) else math.nan,
            statistic=statistic,
            p_value=p_value,
            log_evidence=float(log_wealth(bets)[-1]),
            low=CLIP * lower_bound(bets, 0.025),
            high=-CLIP * lower_bound(-bets, 0.025),
        )
    return found
