"""Names, order and dtypes of the files the gates judge."""

from __future__ import annotations

import polars as pl

TIME = pl.Datetime("us", "UTC")
PRICES = ("open", "high", "low", "close")

BARS: dict[str, pl.DataType] = {
    "ts": TIME,
    "contract": pl.String(),
    "session": pl.Date(),
    "rth": pl.Boolean(),
    **dict.fromkeys(PRICES, pl.Float64()),
    "volume": pl.Int64(),
    "vix": pl.Float64(),
}

FEATURE_KEYS: dict[str, pl.DataType] = {"ts": TIME, "contract": pl.String(), "session": pl.Date()}

TRAINING_KEYS: dict[str, pl.DataType] = {
    **FEATURE_KEYS,
    "split": pl.String(),
    "label_end": TIME,
    "ret": pl.Float64(),
    "y": pl.Float32(),
    "weight": pl.Float32(),
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),
    "last_ret": pl.Float64(),
}

SPLITS = ("train", "validation", "test")
