"""Labels: the log return from the decision at the close of a bar to the end of the horizon."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from vpoc_ml.config.choices import Horizon

LABEL_COLUMNS = ("label_end", "ret", "ret_close", "entry_price", "exit_price", "last_ret")
LabelRule = Literal["next_open", "close"]
Floats = npt.NDArray[np.float64]


def label_bars(
    bars: pl.DataFrame, horizon: Horizon, rule: LabelRule, return_clip: float, exits: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Label every bar of one contract.

    A decision falls at the close of bar t and is executed at the open of the next bar of the session, which must start
    no later than the exit bar. The label ends at the close of its exit bar: the bar that starts exactly the horizon's
    minutes later in the same session; the session's last bar; or the last bar of a later session. It is NaN if the
    exit or the next bar is missing, or if a price it needs is at or below 0. A missing label is never filled or taken
    from a later bar: a return over a gap is a different quantity.

    Args:
        bars: one contract's bars, sorted by ts: ts (start of bar, UTC), session, open, close in points.
        horizon: where the label ends.
        rule: ``next_open`` or ``close``: the price where ``ret`` begins.
        return_clip: bound of the absolute log return; larger ones are clipped to it.
        exits: result of ``session_exits`` for this contract; for a horizon in sessions only.

    Returns:
        One row per bar, in the order of ``bars``: ts, label_end (start of the exit bar; set for every row, if there is
        none yet at a time that is not after it), ret (the label), ret_close (from the close of bar t to the same exit),
        entry_price (open of the next bar), exit_price (close of the exit bar), last_ret (log return of bar t itself:
        against the previous close of the session, in its first bar against the open). Float64, NaN where undefined.
    """
    frame = bars.select("ts", "session", "open", "close")
    if horizon.kind == "minutes":
        length = pl.duration(minutes=horizon.count)
        ends = frame.select("session", (pl.col("ts") - length).alias("ts"), pl.col("close").alias("exit_price"))
        joined = frame.join(ends, on=["session", "ts"], how="left").with_columns(label_end=pl.col("ts") + length)
    elif horizon.kind == "close":
        joined = frame.with_columns(
            label_end=pl.col("ts").last().over("session"), exit_price=pl.col("close").last().over("session")
        )
    else:
        if exits is None:
            raise ValueError("a horizon in sessions needs the exits of the front series")
        at_least = pl.col("ts") + pl.duration(days=horizon.count)
        joined = frame.join(exits, on="session", how="left").with_columns(pl.col("label_end").fill_null(at_least))
    following = pl.col("open").shift(-1).over("session")
    reachable = pl.col("ts").shift(-1).over("session") <= pl.col("label_end")
    nan = float("nan")
    priced = joined.with_columns(
        entry_price=pl.when(reachable).then(following).fill_null(nan), exit_price=pl.col("exit_price").fill_null(nan)
    )
    tradeable = pl.col("entry_price").is_finite() & (pl.col("entry_price") > 0)
    returns = {
        name: pl.when(tradeable)
        .then(_log_ratio(pl.col("exit_price"), pl.col(start)).clip(-return_clip, return_clip))
        .otherwise(nan)
        for name, start in (("next_open", "entry_price"), ("close", "close"))
    }
    return priced.select(
        "ts",
        "label_end",
        ret=returns[rule],
        ret_close=returns["close"],
        entry_price="entry_price",
        exit_price="exit_price",
        last_ret=_log_ratio(pl.col("close"), pl.col("close").shift(1).over("session").fill_null(pl.col("open"))),
    )


def session_exits(closes: pl.DataFrame, ratios: dict[str, float | None], count: int) -> dict[str, pl.DataFrame]:
    """Return for each contract where labels over ``count`` sessions end: the close of a later front session.

    The price of another contract is converted into the prices of the contract held: it is divided by the ratio of
    every roll in between. Without one of these ratios there is no exit.

    Args:
        closes: the front series, one row a session in order of time: contract, session, ts (start of the session's
            last bar) and close.
        ratios: contract -> price of this contract over that of its predecessor at the roll; None where unknown.
        count: sessions from the session of the decision to the session of the exit.

    Returns:
        Contract -> session, label_end and exit_price; sessions without an exit have no row.
    """
    contract = pl.col("contract")
    rolled = (contract != contract.shift(1)).fill_null(value=False)
    ratio = contract.replace_strict(ratios, return_dtype=pl.Float64)
    steps = closes.with_columns(step=pl.when(rolled).then(ratio).otherwise(1.0))
    # of these rolls alone, so that no label depends on how far back the series goes; null where a ratio is unknown
    rolls = reduce(operator.mul, [pl.col("step").shift(-sessions) for sessions in range(1, count + 1)])
    exits = steps.select(
        "contract",
        "session",
        label_end=pl.col("ts").shift(-count),
        exit_price=pl.col("close").shift(-count) / rolls,
    ).filter(pl.col("exit_price").is_not_null())
    parts = exits.partition_by("contract", as_dict=True, include_key=False)
    return {code: part for (code,), part in parts.items()}


def label_uniqueness(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], bars: int) -> Floats:
    """Return the average uniqueness of each label, in (0, 1] (Lopez de Prado 2018, section 4.3).

    It is the mean of 1 / (number of labels alive) over the bars of the label. Its sum is the effective number of rows:
    labels of h minutes on every minute are worth about one independent label per h rows.

    Args:
        starts: first bar of each label [n].
        ends: last bar of each label [n], not before the first.
        bars: number of bars.
    """
    alive = np.cumsum(np.bincount(starts, minlength=bars + 1) - np.bincount(ends + 1, minlength=bars + 1))[:bars]
    share = np.concatenate([[0.0], np.cumsum(np.divide(1.0, alive, out=np.zeros(bars), where=alive > 0))])
    return np.asarray((share[ends + 1] - share[starts]) / (ends + 1 - starts), dtype=np.float64)


def known_volatility(last_returns: pl.Series, minutes: int, bars: int) -> pl.Series:
    """Estimate the standard deviation of each bar's label from its last ``bars`` returns, Float64.

    It is the root mean square of one contract's bar returns (``last_ret``, without the gaps between sessions) up to and
    including bar t, times the square root of the horizon's ``minutes``. It is NaN for the first ``bars`` - 1 rows and
    where a return is not finite. Each value is summed separately, so no value depends on the first bar of the input.
    """
    squares = np.square(last_returns.to_numpy())
    known = np.full(squares.size, np.nan)
    if squares.size >= bars:
        known[bars - 1 :] = np.sqrt(sliding_window_view(squares, bars).mean(axis=1) * minutes)
    return pl.Series("volatility", known)


def _log_ratio(end: pl.Expr, start: pl.Expr) -> pl.Expr:
    """Return the natural logarithm of end / start; NaN unless both are positive and finite."""
    ratio = end / start
    valid = (end > 0) & (start > 0) & ratio.is_finite()
    return pl.when(valid).then(ratio.log()).otherwise(float("nan"))
