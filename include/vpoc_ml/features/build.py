"""All features of one contract, and where they may still be NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

from vpoc_ml.features import calendar_features, levels, price, vix, volatility, volume
from vpoc_ml.features.inputs import Floats, Inputs, gather
from vpoc_ml.features.registry import FEATURE_NAMES, REGISTRY
from vpoc_ml.market.instruments import Instrument

_FAMILIES = {
    "price": price,
    "volume": volume,
    "volatility": volatility,
    "levels": levels,
    "vix": vix,
    "calendar": calendar_features,
}
FUNCTIONS: dict[str, Callable[[Inputs], Floats]] = {
    name: getattr(_FAMILIES[feature.family], name) for name, feature in REGISTRY.items()
}


def build_features(
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    developing: pl.DataFrame,
    vix: pl.DataFrame,
    instrument: Instrument,
) -> pl.DataFrame:
    """Return ``ts, contract, session`` and one Float32 column a feature, one row a bar.

    A row depends on its bar and what came before: of the bars' own session through ``developing``, of
    ``sessions`` only through completed ones, of ``vix`` through closes published before the bar.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        sessions: ``build_sessions`` of these bars.
        developing: ``build_developing`` of these bars.
        vix: ``date, close, available_at``.
        instrument: gives tick size and calendar.

    Raises:
        ArtifactError: the frames do not belong together.
        InvalidValueError: a price is NaN, or a session lies outside the reviewed calendar.
    """
    keys = bars.select("ts", "contract", "session")
    if bars.is_empty():
        return keys.with_columns(pl.lit(None, pl.Float32).alias(name) for name in FEATURE_NAMES)
    inputs = gather(bars, sessions, developing, vix, instrument)
    return keys.with_columns(pl.Series(name, FUNCTIONS[name](inputs).astype(np.float32)) for name in FEATURE_NAMES)


def warmup_sessions(names: Iterable[str]) -> int:
    """Return how many sessions of a contract may hold NaN in one of these features."""
    return max((REGISTRY[name].warmup_sessions for name in names), default=0)


def in_warmup(features: pl.DataFrame, names: Iterable[str]) -> pl.Series:
    """Return True for the rows in which one of these features may be NaN.

    Like ``warmup_sessions``, and also right for a contract whose first sessions hold fewer bars than
    a window.

    Args:
        features: rows of one contract from its first bar on, with ``session``.
        names: features of the registry.
    """
    names = tuple(names)
    day = features["session"].rle_id()
    row = pl.int_range(features.height, eager=True)
    bars = max((REGISTRY[name].warmup_bars for name in names), default=0)
    return ((day < warmup_sessions(names)) | (row < bars)).alias("warmup")
