"""How much of the skill an order can reach: executable against close-to-close returns, and later entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from vpoc_ml.artifacts.metrics import DelaySkill, LabelSkill
from vpoc_ml.evaluation.bootstrap import Resamples
from vpoc_ml.evaluation.forecasts import Floats, Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import correlation, rank_moments

DELAYS = (0, 1, 2, 3, 5, 10)
"""Minutes by which the entry is delayed."""


def executable_returns(rows: pl.DataFrame) -> Floats:
    """Return the log return from the next open to the exit, (n,), from ``entry_price`` and ``exit_price``."""
    returns: Floats = np.log(rows["exit_price"].to_numpy() / rows["entry_price"].to_numpy())
    return returns


def label_skill(test: pl.DataFrame, forecasts: Sequence[Forecast], resamples: Resamples) -> dict[str, LabelSkill]:
    """Return the rank IC of each forecast against the executable and the close-to-close return of the same rows.

    Args:
        test: labelled rows in order of time: session, ret, y, ret_close, entry_price, exit_price.
        forecasts: predictions of these rows; those without ranks are left out.
        resamples: of the sessions of ``test``.
    """
    rows = LabelledRows.of(test)
    returns = {"executable": executable_returns(test), "close": test["ret_close"].to_numpy().astype(np.float64)}
    found = {}
    for forecast in forecasts:
        if forecast.direction_only:
            continue
        moments = {
            name: rank_moments(forecast.rank, replace(rows, ret=ret)) if forecast.ranked else None
            for name, ret in returns.items()
        }
        ic = {name: None if m is None else resamples.interval(m, correlation) for name, m in moments.items()}
        executable, close = ic["executable"], ic["close"]
        known = executable is not None and close is not None and close.value > 0
        share = 1.0 - executable.value / close.value if known and executable and close else None
        found[forecast.name] = LabelSkill(executable=executable, close=close, bounce_share=share)
    return found


def entry_delays(test: pl.DataFrame, forecasts: Sequence[Forecast]) -> tuple[DelaySkill, ...]:
    """Return the rank IC of each forecast against the executable return of a position opened later.

    A delay of d minutes takes the executable return of the row that starts d minutes later in the same session of the
    same contract. Rows without such a row drop out, so the numbers of rows differ.

    Args:
        test: labelled rows in order of time: ts, contract, session, entry_price, exit_price.
        forecasts: predictions of these rows; those without ranks are left out.
    """
    own = test.select("ts", "contract", "session").with_columns(executable=executable_returns(test))
    constants = {each.name for each in forecasts if not each.ranked}
    found = []
    for minutes in DELAYS:
        later = own.with_columns(ts=pl.col("ts") - pl.duration(minutes=minutes))
        delayed = own.drop("executable").join(
            later, on=["ts", "contract", "session"], how="left", maintain_order="left"
        )["executable"]
        returns = delayed.fill_null(float("nan")).to_numpy()
        known = np.isfinite(returns)
        ranked = {each.name: each.rank[known] for each in forecasts if not each.direction_only}
        rank_ic = {
            name: float(spearmanr(rank, returns[known]).statistic)
            if name not in constants and np.ptp(rank) > 0
            else None
            for name, rank in ranked.items()
            if rank.size > 1
        }
        found.append(DelaySkill(minutes=minutes, rows=int(known.sum()), rank_ic=rank_ic))
    return tuple(found)
