"""One score per session: how far the candidate is ahead of a model without skill, each baseline and the champion.

All tests of significance read these scores. Above 0 the candidate is better. The mean of a score must be 0 where there
is nothing to find, whatever the forecasts look like. So nothing in it may be centred, ranked or scaled by the session
itself. Spearman's correlation within each session is no such score: a forecast that falls with the price since the open
correlates with the next returns in any random walk, because a high price lies above the session's own mean. On
generated markets without signal its mean was 0.004 at one minute, 0.02 at 15 minutes, 0.04 at an hour, and 0.5 to the
next close.
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
"""Column of the candidate's rank IC, see ``session_ic``; its mean is 0 for a model without skill."""
MOMENTS = ("forecast_mean", "forecast_square", "return_mean", "product_mean")
"""Means within a session of forecast, its square, realised rank, and their product, both ranks minus 1/2."""
STANDARD_SESSIONS = 20
"""Sessions before a session by whose forecasts its own are standardised."""
CONSTANT = "constant"
"""The constant is compared by its Huber loss, every other model by direction accuracy."""


def session_moments(session: pl.Series, rank: Floats, y: Floats) -> pl.DataFrame:
    """Return session, ``MOMENTS``, one row per session, sorted: what ``session_ic`` needs.

    Args:
        session: exchange trade date of each row, (n,).
        rank: predicted rank of the return, (n,).
        y: rank of the return among the training returns of the model, (n,).
    """
    frame = pl.DataFrame({"session": session, "rank": rank - 0.5, "y": y - 0.5})
    means = (pl.col("rank"), pl.col("rank") ** 2, pl.col("y"), pl.col("rank") * pl.col("y"))
    named = (each.mean().alias(name) for each, name in zip(means, MOMENTS, strict=True))
    return frame.group_by("session").agg(named).sort("session")


def session_ic(moments: pl.DataFrame) -> Floats:
    """Return the rank IC of each session, (sessions,): the mean product of standardised forecasts and realised ranks.

    Forecasts are standardised by mean and deviation of those of the ``STANDARD_SESSIONS`` sessions before. Ranks among
    the training returns are uniform, so 1/2 and 1/sqrt(12) standardise them. All of it is known before the session:
    without skill the expected rank IC of a session is 0. NaN in the first session, and after forecasts that did not
    vary.

    Args:
        moments: rows of ``session_moments``, oldest first.
    """
    mean, square, lean, product = (moments[name].fill_null(math.nan).to_numpy() for name in MOMENTS)
    found = np.full(len(mean), np.nan)
    for index in range(1, len(mean)):
        before = slice(max(index - STANDARD_SESSIONS, 0), index)
        usual = float(np.nanmean(mean[before])) if np.isfinite(mean[before]).any() else math.nan
        deviation = (
            math.sqrt(max(float(np.nanmean(square[before])) - usual * usual, 0.0)) if math.isfinite(usual) else 0.0
        )
        if deviation > 0:
            found[index] = math.sqrt(12) * (product[index] - usual * lean[index]) / deviation
    return found


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
