"""A small chart of every feature on the synthetic market."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.evaluation.forecasts import Floats
from vpoc_ml.features.build import build_features
from vpoc_ml.features.registry import ALL_FEATURES, OPTIONAL_FAMILIES, Feature
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.reports.inline_svg import path_svg
from vpoc_ml.synthetic.generate import write_market

SEED = 7
FIRST = 60
"""The first session shown: late enough for the longest warm-up, while the contract is the front one."""
COLUMNS = 110
FEW = 4
_WINDOWED, _SHOWN_WINDOW = "alpha158", "20 m"


def pictured(feature: Feature) -> bool:
    """Return whether a feature has a chart. Of features that differ only in the window, the one of 20 bars has."""
    return feature.family != _WINDOWED or feature.window in ("1 m", _SHOWN_WINDOW)


def sketches() -> Iterator[tuple[str, str]]:
    """Yield name and SVG of every feature that has a chart, those of the registry first."""
    features = synthetic_features()
    for name, feature in ALL_FEATURES.items():
        if pictured(feature):
            yield name, sketch(features.select("session", name), feature)


def sketch(column: pl.DataFrame, feature: Feature) -> str:
    """Draw one feature of one contract; return the SVG.

    The chart shows two sessions. If these hold only a few values, it shows the last value of every session instead.

    Args:
        column: ``session`` and the feature's own column, one row per bar.
        feature: The feature.
    """
    days = column["session"].unique(maintain_order=True)
    two = [_values(column, day) for day in days[FIRST : FIRST + 2]]
    if len(np.unique(np.concatenate(two))) > FEW or feature.unit == "0/1":
        return path_svg([envelope(part, COLUMNS) for part in two], f"{feature.name}, two sessions")
    ends = np.array([_values(column, day)[-1] for day in days])
    known = ends[np.isfinite(ends).argmax() :]
    return path_svg([known], f"{feature.name}, end of {known.size} sessions", step=True)


def envelope(values: Floats, columns: int) -> Floats:
    """Return at most two values for each of ``columns`` equal parts: its smallest and largest, in their order."""
    if values.size <= 2 * columns:
        return values
    parts = np.array_split(np.arange(values.size), columns)
    filled = np.where(np.isfinite(values), values, 0.0)
    kept = [sorted({part[filled[part].argmin()], part[filled[part].argmax()]}) for part in parts]
    return values[np.concatenate(kept)]


def synthetic_features() -> pl.DataFrame:
    """Return all features of one synthetic contract; a market of another seed is the paired instrument."""
    es = instrument("ES")
    with tempfile.TemporaryDirectory() as folder:
        bars, vix = _market(Path(folder, "market"), SEED)
        pair, _ = _market(Path(folder, "pair"), SEED + 1)
    config = ProfileConfig()
    features = build_features(
        bars,
        build_sessions(bars, es, config),
        build_developing(bars, es, config),
        vix,
        es,
        extras=OPTIONAL_FAMILIES,
        pair=pair.select("ts", "close"),
    )
    return features.select("session", *ALL_FEATURES)


def _market(folder: Path, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return bars and VIX closes of a synthetic market of one contract."""
    made = write_market(folder, contracts=1, seed=seed)
    vix, contract = read_vix(made.vix), parse_contract("ESH23")
    return build_bars(made.files[contract.code], contract, instrument("ES"), vix, IngestConfig()).bars, vix


def _values(column: pl.DataFrame, day: object) -> Floats:
    return column.filter(pl.col("session") == day).to_series(1).to_numpy().astype(np.float64)
