"""A next-bar backtest of one contract, in dollars.

The decision is made at the close of bar t. The position is opened at the open of bar t+1 and held until the close of
the bar where the label ends. The next decision falls there. If it is equal, the position is held, without closing and
reopening it. Every position of a horizon within the session is closed at the end of its session and wherever decisions
are not adjacent. A position of a horizon in sessions is held overnight and closed at its exit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.metrics import BacktestMetrics, Interval, SessionResult, StressResult
from vpoc_ml.evaluation.bootstrap import Resamples, Statistic
from vpoc_ml.evaluation.forecasts import Floats, Ints

TRADING_DAYS = 252
STRESS = 2.0


@dataclass(frozen=True)
class Trades:
    """Uninterrupted positions in order of time. All arrays are (trades,); results in dollars before costs."""

    block: Ints
    direction: Floats
    entry: Floats
    exit: Floats
    gross: Floats


def trades(test: pl.DataFrame, direction: Floats, *, point_value: float) -> Trades:
    """Join decisions into held positions.

    ``test`` is sorted by time and has ts, label_end (start of the bar where the label ends), contract, session,
    entry_price (open of the bar after t) and exit_price (close of the bar where the label ends). ``direction`` (n,) is
    -1, 0 or +1. A position earns exactly direction * (exit of its last bar - entry of its first bar) * ``point_value``.
    """
    keep = decision_rows(test)
    needed = test.select("ts", "label_end", "contract", "session", "entry_price", "exit_price")
    rows, side = needed[keep], direction[keep].copy()
    entry, exit_ = rows["entry_price"].to_numpy(), rows["exit_price"].to_numpy()
    side[~(np.isfinite(entry) & np.isfinite(exit_))] = 0.0
    joined = _adjacent(rows) & (side[1:] == side[:-1])
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    last = np.concatenate([first[1:] - 1, [len(side) - 1]])
    held = side[first] != 0
    first, last = first[held], last[held]
    block = rows["session"].rank("dense").to_numpy().astype(np.int64) - 1
    gross = side[first] * (exit_[last] - entry[first]) * point_value
    return Trades(block[first], side[first], entry[first], exit_[last], gross)


def decision_rows(test: pl.DataFrame) -> Ints:
    """Return the rows that are traded: the first one, and each first row at or after the exit of the one before.

    With a horizon of more than a minute the labels of neighbouring rows overlap. Trading all of them would hold several
    contracts at once.
    """
    times = test["ts"].to_physical().to_numpy()
    following = np.searchsorted(times, test["label_end"].to_physical().to_numpy(), side="left")
    after = np.arange(1, test.height + 1)
    following = np.maximum(following, after)
    if np.array_equal(following, after):  # labels of a minute
        return after - 1
    chosen, row = [], 0
    while row < test.height:
        chosen.append(row)
        row = int(following[row])
    return np.asarray(chosen, dtype=np.int64)


def backtest(
    test: pl.DataFrame,
    direction: Floats,
    resamples: Resamples,
    *,
    point_value: float,
    round_turn_cost: float,
) -> BacktestMetrics:
    """Return gross and net result, risk and costs of trading every ``direction`` with one contract.

    Sharpe ratios refer to daily dollars, annualised by sqrt(252). Their intervals resample sessions. Ratios without a
    denominator (no trade, no variance) are None.
    """
    held = trades(test, direction, point_value=point_value)
    sessions = resamples.sessions
    gross: Floats = np.bincount(held.block, held.gross, sessions).astype(np.float64)
    count = np.bincount(held.block, minlength=sessions)
    net: Floats = gross - round_turn_cost * count
    stressed: Floats = gross - STRESS * round_turn_cost * count
    number = len(held.gross)
    days = test["session"].unique().sort().to_list()
    return BacktestMetrics(
        point_value=point_value,
        round_turn_cost=round_turn_cost,
        trades=number,
        gross=float(gross.sum()),
        costs=round_turn_cost * number,
        net=float(net.sum()),
        net_per_session=_interval(net, resamples, lambda sums: sums[..., 1] / sums[..., 0]),
        sharpe=_interval(net, resamples, sharpe),
        sharpe_gross=_interval(gross, resamples, sharpe),
        max_drawdown=max_drawdown(net),
        hit_rate=float((held.gross > 0).mean()) if number else None,
        break_even_cost=float(gross.sum()) / number if number else None,
        stress=StressResult(
            round_turn_cost=STRESS * round_turn_cost,
            net=float(stressed.sum()),
            sharpe=_interval(stressed, resamples, sharpe),
        ),
        daily=tuple(
            SessionResult(session=day.isoformat(), gross=float(g), net=float(n), trades=int(c))
            for day, g, n, c in zip(days, gross, net, count, strict=True)
        ),
    )


def sharpe(sums: Floats) -> Floats:
    """Return the annualised Sharpe ratio from the sums of days, P&L and squared P&L; NaN without variance."""
    n, total, squares = np.moveaxis(sums, -1, 0)
    variance = (squares - total * total / n) / (n - 1)
    floor = 1e-12 * squares / n  # a smaller difference of two large sums is rounding error
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = math.sqrt(TRADING_DAYS) * (total / n) / np.sqrt(variance)
        return np.asarray(np.where(variance > floor, ratio, np.nan))


def max_drawdown(daily: Floats) -> float:
    """Return the largest fall of the cumulated daily P&L from an earlier maximum; the start counts as 0."""
    equity = np.concatenate([[0.0], np.cumsum(daily)])
    return float((np.maximum.accumulate(equity) - equity).max())


def _adjacent(rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which rows fall at the exit of the previous row, within one session of one contract, (n - 1,)."""
    same = [pl.col(name) == pl.col(name).shift(1) for name in ("contract", "session")]
    at_exit = pl.col("ts") == pl.col("label_end").shift(1)
    return rows.select(adjacent=pl.all_horizontal(*same, at_exit))["adjacent"].to_numpy()[1:].astype(np.bool_)


def _interval(daily: Floats, resamples: Resamples, statistic: Statistic) -> Interval | None:
    return resamples.interval(np.stack([np.ones_like(daily), daily, daily**2], axis=1), statistic)
