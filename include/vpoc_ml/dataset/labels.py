"""Labels: the log return over the next minutes, inside one session of one contract."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

LABEL_COLUMNS = ("label_end", "ret", "entry_price", "exit_price", "last_ret")


def label_bars(bars: pl.DataFrame, horizon_minutes: int, return_clip: float) -> pl.DataFrame:
    """Label every bar of one contract.

    The label of bar t is the log return from its close to the close of the bar that starts exactly
    ``horizon_minutes`` later in the same session; where that bar is missing there is no label. A
    missing label stays NaN, also one that begins, is entered or ends at a price at or below 0: it is never
    filled, and never taken from a later bar, because a return over a gap or a roll is another quantity than
    the one the model is asked for.

    Args:
        bars: one contract's bars, sorted by ts: ts (start of bar, UTC), session, open, close in points.
        horizon_minutes: minutes from the start of bar t to the start of the bar that ends the label.
        return_clip: largest absolute log return; longer ones are cut to it.

    Returns:
        One row per bar, in the order of ``bars``: ts, label_end (ts + horizon; set for every row),
        ret, entry_price (open of the next bar of the session, if it starts no later than label_end),
        exit_price (close of the bar that ends the label), last_ret (log return of bar t itself: against
        the previous close of the session, in its first bar against the open). Float64, NaN where undefined.
    """
    horizon = pl.duration(minutes=horizon_minutes)
    ends = bars.select("session", (pl.col("ts") - horizon).alias("ts"), pl.col("close").alias("exit_price"))
    joined = bars.select("ts", "session", "open", "close").join(ends, on=["session", "ts"], how="left")
    following = pl.col("open").shift(-1).over("session")
    reachable = pl.col("ts").shift(-1).over("session") <= pl.col("ts") + horizon
    return joined.select(
        "ts",
        label_end=pl.col("ts") + horizon,
        ret=pl.when(reachable & (following <= 0))
        .then(float("nan"))
        .otherwise(_log_ratio(pl.col("exit_price"), pl.col("close")).clip(-return_clip, return_clip)),
        entry_price=pl.when(reachable).then(following).fill_null(float("nan")),
        exit_price=pl.col("exit_price").fill_null(float("nan")),
        last_ret=_log_ratio(pl.col("close"), pl.col("close").shift(1).over("session").fill_null(pl.col("open"))),
    )


def known_volatility(last_returns: pl.Series, horizon_minutes: int, bars: int) -> pl.Series:
    """Return the standard deviation of each bar's label as its last ``bars`` returns tell it, Float64.

    The root mean square of the returns of one contract's bars up to and including bar t (``last_ret``:
    they leave out gaps between sessions), times the root of the horizon. NaN for the first ``bars`` - 1
    rows and where one of the returns is not finite. Each value is summed by itself, so that none depends
    on where the bars begin.
    """
    squares = np.square(last_returns.to_numpy())
    known = np.full(squares.size, np.nan)
    if squares.size >= bars:
        known[bars - 1 :] = np.sqrt(sliding_window_view(squares, bars).mean(axis=1) * horizon_minutes)
    return pl.Series("volatility", known)


def _log_ratio(end: pl.Expr, start: pl.Expr) -> pl.Expr:
    """Natural log of end / start; NaN unless both are positive and finite."""
    ratio = end / start
    sound = (end > 0) & (start > 0) & ratio.is_finite()
    return pl.when(sound).then(ratio.log()).otherwise(float("nan"))
