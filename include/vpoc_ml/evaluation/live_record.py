"""The live record of a preset: how its models did on sessions after they were fixed, one row per session.

It is the only record that no search and no second look can have touched.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from vpoc_ml.artifacts.stage_results import LiveRecord
from vpoc_ml.evaluation.forecasts import CANDIDATE, Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import ratio, reduce
from vpoc_ml.evaluation.sequential import bounded, log_detector, log_wealth
from vpoc_ml.evaluation.session_scores import CONSTANT, session_gains, session_ic, session_moments

LASTING = 0.5
"""Share of the track record's rank IC below which a signal counts as fading."""


def live_sessions(frame: pl.DataFrame, score: Forecast, delta: float) -> pl.DataFrame:
    """Return what a live record keeps of each session: ``schemas.LIVE_RECORD`` without ``version``.

    Args:
        frame: labelled rows sorted by ts: session, ``ret`` and ``y``, its rank among the model's training returns.
        score: the model's forecast of these rows.
        delta: of the Huber loss, in rank units.
    """
    rows = LabelledRows.of(frame)
    constant = Forecast(CONSTANT, np.full(len(rows.y), 0.5), 0.5, ranked=False)
    sums = {CANDIDATE: reduce(score, rows, delta), CONSTANT: reduce(constant, rows, delta)}
    return session_moments(frame["session"], score.rank, rows.y).with_columns(
        pl.Series("rows", rows.per_session(np.ones_like(rows.y))[:, 0].astype(np.int64)),
        pl.Series(CONSTANT, session_gains(sums)[CONSTANT]),
        pl.Series("accuracy", ratio(sums[CANDIDATE].accuracy)),
    )


def summarize_live(
    preset: str, sessions: pl.DataFrame, *, version: int, champion: bool, track_rank_ic: float | None, horizon: int
) -> LiveRecord:
    """Return what a live record says.

    Args:
        preset: identity of settings and code.
        sessions: rows of the record, oldest first.
        version: newest version of the preset.
        champion: the champion is of this preset.
        track_rank_ic: mean rank IC of a session of its track record; None where it is not known.
        horizon: sessions that a label covers.
    """
    skill = session_ic(sessions)
    finite = skill[np.isfinite(skill)]
    fading = None
    if track_rank_ic is not None and track_rank_ic > 0:
        fading = _last(log_detector(bounded(LASTING * track_rank_ic - skill, horizon)))
    return LiveRecord(
        preset=preset,
        version=version,
        champion=champion,
        sessions=len(finite),
        since=sessions["session"][0].isoformat() if len(sessions) else None,
        rank_ic=float(finite.mean()) if len(finite) else None,
        track_rank_ic=track_rank_ic,
        log_for=_last(log_wealth(bounded(skill, horizon))),
        log_against=_last(log_wealth(bounded(-skill, horizon))),
        log_fading=fading,
    )


def _last(path: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(path[-1]) if len(path) else 0.0
