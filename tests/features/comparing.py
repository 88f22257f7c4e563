"""Comparison of feature columns bit by bit, and bars of one contract relabelled as its predecessor's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.history import Predecessor
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.sessions import build_sessions

PRICES = ("open", "high", "low", "close")
LEVELS = ("vpoc", "vah", "val")


def bits(frame: pl.DataFrame) -> npt.NDArray[np.int32]:
    """The bits of the features: NaN equals NaN, and -0 is not 0."""
    return frame.select(FEATURE_NAMES).to_numpy().view(np.int32)


def scaled(frame: pl.DataFrame, names: Sequence[str], factor: float) -> pl.DataFrame:
    return frame.with_columns(pl.col(name) * factor for name in names)


def predecessor_of(
    bars: pl.DataFrame, es: Instrument, first: date, code: str = "ESZ24", ratio: float = 1.0
) -> Predecessor:
    """Make a predecessor of the bars before ``first``; the levels are of the bars as given, then moved by 1/ratio."""
    own = bars.filter(pl.col("session") < first).with_columns(pl.lit(code).alias("contract"))
    daily = build_sessions(own, es, ProfileConfig())
    return Predecessor(scaled(own, PRICES, 1 / ratio), scaled(daily, (*PRICES, *LEVELS), 1 / ratio), ratio, first)
