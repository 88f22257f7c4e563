"""Parts of the builders with a planted leak: rows of a contract and its past, chunks, and a correct training set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.config import DatasetConfig, RunConfig, nightly
from vpoc_ml.features.registry import Feature
from vpoc_ml.leakage.comparison import KEYS, Build, Market
from vpoc_ml.leakage.product_builders import training_set_builder
from vpoc_ml.leakage.training_set import Fit, Tables, TrainingSet

Columns = Callable[[pl.DataFrame], dict[str, pl.Expr | pl.Series]]
NIGHTLY: RunConfig = nightly()
DATASET: DatasetConfig = NIGHTLY.dataset
SEED = 3


def declared(name: str, window: str, *, family: str = "price", sessions: int = 0, bars: int = 0) -> dict[str, Feature]:
    """Return a registry of one feature."""
    unbounded = (-np.inf, np.inf)
    return {name: Feature(name, family, "", window, "", unbounded, unbounded, sessions, bars)}


def over_bars(columns: Columns) -> Build:
    """Return a builder that computes columns over a contract's bars, each chunk by itself."""

    def build(market: Market, rows: int | None) -> pl.DataFrame:
        chunks = market.bars.iter_slices(rows or market.rows)
        return pl.concat(chunk.select(KEYS, **columns(chunk)) for chunk in chunks)

    return build


def with_carry(columns: Columns) -> Build:
    """Return a builder that computes columns over all bars so far, whatever the chunk: the correct way."""

    def build(market: Market, rows: int | None) -> pl.DataFrame:
        ends = range(rows, market.rows + rows, rows) if rows else [market.rows]
        parts, done = [], 0
        for end in (min(each, market.rows) for each in ends):
            known = market.bars.head(end)
            parts.append(known.select(KEYS, **columns(known)).slice(done))
            done = end
        return pl.concat(parts)

    return build


def plain(bars: pl.DataFrame) -> dict[str, pl.Expr | pl.Series]:
    """Three correct features for the training sets with a planted leak."""
    close, volume = pl.col("close"), pl.col("volume")
    change = (close / close.shift(1)).log()
    return {
        "mom_5m": 1e4 * (close / close.shift(5)).log(),
        "vol_ratio_10": volume / volume.rolling_mean(10),
        "range_10": change.rolling_std(10),
    }


PLAIN = with_carry(plain)
CORRECT = training_set_builder(NIGHTLY)


def with_leak(plant: Callable[[TrainingSet, Tables], TrainingSet]) -> Fit:
    """Return the product's training set with one step replaced by a wrong one."""
    return lambda tables: plant(CORRECT(tables), tables)


def features_of(frame: pl.DataFrame) -> list[str]:
    return list(plain(frame))


def caught(violations: list[Violation], name: str, check: str) -> bool:
    """Return whether the check reported this feature, with what was expected, what was found and a remedy."""
    mine = [one for one in violations if (one.feature, one.check) == (name, check)]
    return bool(mine) and all(one.expected and one.found and one.remedy and one.line() for one in mine)
