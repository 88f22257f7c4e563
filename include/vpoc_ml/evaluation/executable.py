"""How much of the skill an order can reach: executable against close-to-close returns, and later entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.metrics import DelaySkill, LabelSkill
from vpoc_ml.evaluation.bootstrap import Resamples
from vpoc_ml.evaluation.forecasts import Floats, Forecast, Ints, LabelledRows, average_ranks
from vpoc_ml.evaluation.metrics import correlation, rank_moments

DELAYS = (0, 1, 2, 3, 5, 10)
"""Minutes by which the entry is delayed."""
LONGEST_MARKET = 2**30
"""Minutes, some 2000 years: more than between any two rows."""


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
    labels = {"executable": executable_returns(test), "close": test["ret_close"].to_numpy().astype(np.float64)}
    rows = {name: replace(LabelledRows.of(test), ret=ret) for name, ret in labels.items()}
    found = {}
    for forecast in forecasts:
        if forecast.direction_only:
            continue
        moments = {name: rank_moments(forecast, each) for name, each in rows.items()}
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
    executable, minute = executable_returns(test), _minutes(test)
    order = np.argsort(minute)
    in_order, by_return = minute[order], np.argsort(executable)
    ranked = [each for each in forecasts if not each.direction_only]
    found = []
    for delay in DELAYS:
        place = np.searchsorted(in_order, minute + delay).clip(max=max(test.height - 1, 0))
        later = order[place]
        returns = np.where(in_order[place] == minute + delay, executable[later], np.nan)
        known = np.isfinite(returns)
        rows = int(known.sum())
        earlier = np.full(test.height, -1)
        earlier[later[known]] = np.arange(rows)  # no two rows have the same later one
        sorted_rows = earlier[by_return]
        ranks = average_ranks(returns[known], sorted_rows[sorted_rows >= 0])
        rank_ic = {each.name: _rank_ic(each, known, ranks) for each in ranked} if rows > 1 else {}
        found.append(DelaySkill(minutes=delay, rows=rows, rank_ic=rank_ic))
    return tuple(found)


def _minutes(test: pl.DataFrame) -> Ints:
    """Return a number for each row, (n,), that a row d minutes later in the same session of its contract exceeds by d.

    No such pair exists between two sessions or contracts.
    """
    groups = test.select(pl.col("contract", "session").rank("dense").cast(pl.Int64))
    group = groups["contract"].to_numpy() * (test["session"].n_unique() + 1) + groups["session"].to_numpy()
    minutes: Ints = group * LONGEST_MARKET + test["ts"].dt.epoch("s").to_numpy() // 60
    return minutes


def _rank_ic(forecast: Forecast, known: npt.NDArray[np.bool_], ranks: Floats) -> float | None:
    """Return Spearman's correlation of the ``known`` rows of a forecast, (n,), with the ``ranks`` of their returns.

    None for a constant. The order of the known rows follows from that of all rows without another sort.
    """
    values = forecast.rank[known]
    if not forecast.ranked or not np.ptp(values) > 0:
        return None
    position = np.cumsum(known) - 1
    order = position[forecast.order[known[forecast.order]]]
    return float(np.corrcoef(average_ranks(values, order), ranks)[1, 0])
