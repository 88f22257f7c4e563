"""Labels: the log return over the next minutes within one session of one contract."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

LABEL_COLUMNS = ("label_end", "ret", "entry_price", "exit_price", "last_ret")


def label_bars(bars: pl.DataFrame, horizon_minutes: int, return_clip: float) -> pl.DataFrame:
    """Label every bar of one contract.

    The label of bar t is the log return from its close to the close of the bar that starts exactly
    ``horizon_minutes`` later in the same session. The label is NaN if that bar is missing, or if the start, entry or
    end price is at or below 0. A missing label is never filled or taken from a later bar: a return over a gap or a
    roll is a different quantity.

    Args:
        bars: one contract's bars, sorted by ts: ts (start of bar, UTC), session, open, close in points.
        horizon_minutes: minutes from the start of bar t to the start of the bar that ends the label.
        return_clip: bound of the absolute log return; larger ones are clipped to it.

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
    """Estimate the standard deviation of each bar's label from its last ``bars`` returns, Float64.

    It is the root mean square of one contract's bar returns (``last_ret``, without the gaps between sessions) up to and
    including bar t, times the square root of the horizon. It is NaN for the first ``bars`` - 1 rows and where a return
    is not finite. Each value is summed separately, so no value depends on the first bar of the input.
    """
    squares = np.square(last_returns.to_numpy())
    known = np.full(squares.size, np.nan)
    if squares.size >= bars:
        known[bars - 1 :] = np.sqrt(sliding_window_view(squares, bars).mean(axis=1) * horizon_minutes)
    return pl.Series("volatility", known)


def _log_ratio(end: pl.Expr, start: pl.Expr) -> pl.Expr:
    """Return the natural logarithm of end / start; NaN unless both are positive and finite."""
    ratio = end / start
    valid = (end > 0) & (start > 0) & ratio.is_finite()
    return pl.when(valid).then(ratio.log()).otherwise(float("nan"))
