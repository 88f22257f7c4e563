"""Judge a trained run on its validation rows: for choosing between settings, which test rows must never do.

Validation rows also stopped the training, and the best of many trials is the best partly by luck: the chosen value
is no estimate of skill. ``returns`` keeps what each trial earned per session, so that the luck can be deflated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.splits import MIN_PART_SESSIONS
from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.evaluation.evaluate import CANDIDATE, finite, measure, predict
from vpoc_ml.evaluation.forecasts import RankModel
from vpoc_ml.market.instruments import Instrument

MONEY = {"gross": pl.Float64, "net": pl.Float64, "trades": pl.Int64}


def evaluate_validation(
    training_set: Path, model: RankModel, config: RunConfig, instrument: Instrument
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return metrics of ``model`` on labelled validation rows, and its backtest's dollars per session.

    Args:
        training_set: ``training_set.parquet`` of the run; only its validation rows are read.
        model: the trained model.
        config: sections ``dataset`` and ``evaluation`` are read.
        instrument: point value and costs of the backtest.

    Returns:
        ``rank_ic``, ``direction_accuracy``, ``huber`` (value, low, high, or None without variance), ``net`` and
        ``sharpe``; and a frame session, gross, net, trades, one row a session.

    Raises:
        ArtifactError: there are no labelled validation rows.
        InsufficientSessionsError: fewer than three sessions.
    """
    wanted = (pl.col("split") == "validation") & (pl.col("weight") == 1)
    rows = pl.scan_parquet(training_set).filter(wanted).collect().sort("ts", "contract")
    if rows.is_empty():
        raise ArtifactError(training_set, "labelled rows in the validation split", "none")
    if (sessions := rows["session"].n_unique()) < MIN_PART_SESSIONS:
        raise InsufficientSessionsError(
            "the validation split", sessions, MIN_PART_SESSIONS, "intervals come from resampling whole sessions"
        )
    metrics = measure(rows, [predict(CANDIDATE, model, rows)], config, instrument)
    daily = metrics["backtest"]["daily"]
    returns = pl.DataFrame(daily).select(
        pl.col("session").str.to_date(), *(pl.col(n).cast(t) for n, t in MONEY.items())
    )
    found = metrics["models"][CANDIDATE]
    told = {name: found[name] for name in ("rank_ic", "direction_accuracy", "huber")}
    return finite({**told, "net": metrics["backtest"]["net"], "sharpe": metrics["backtest"]["sharpe"]}), returns
