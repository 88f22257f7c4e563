"""The product's own builders in the form the leakage checks take."""

from __future__ import annotations

import polars as pl

from vpoc_ml.config import ProfileConfig, RunConfig
from vpoc_ml.dataset.assemble import assemble
from vpoc_ml.features.build import build_features, build_in_chunks
from vpoc_ml.leakage.market import Build, Market
from vpoc_ml.leakage.training_set import Fit, Tables, TrainingSet
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

_COUNTED = {"rows", "labelled_rows", "effective_rows", "splits", "nonfinite_row_share"}
"""Statistics that describe all three splits. Every other one is fitted on the training rows only."""


def feature_builder(profile: ProfileConfig | None = None, extras: tuple[str, ...] = ()) -> Build:
    """Return the path from bars to features that a run takes: sessions, developing levels, features."""
    config = profile or ProfileConfig()

    def build(market: Market, rows: int | None) -> pl.DataFrame:
        if rows is not None:
            return streamed(market, rows, config, extras)
        sessions = build_sessions(market.bars, market.instrument, config)
        developing = build_developing(market.bars, market.instrument, config)
        given = market.bars, sessions, developing, market.vix, market.instrument, market.predecessor
        return build_features(*given, profile=config, extras=extras, pair=market.pair, covariates=market.covariates)

    return build


def streamed(
    market: Market, rows: int, profile: ProfileConfig, extras: tuple[str, ...] = (), skip: int = 0
) -> pl.DataFrame:
    """Return the features from row ``skip`` on, computed ``rows`` bars at a time with no later bar loaded."""
    given = market.bars, market.vix, market.instrument, market.predecessor
    return pl.concat(
        build_in_chunks(
            *given, rows=rows, profile=profile, skip=skip, extras=extras, pair=market.pair, covariates=market.covariates
        )
    )


def training_set_builder(config: RunConfig) -> Fit:
    """Return the path from bars and features to the training set that a run takes."""

    def fit(tables: Tables) -> TrainingSet:
        made = assemble(tables.bars, tables.features, tables.front, tables.instrument, config)
        fitted = made.statistics.model_dump(exclude=_COUNTED)
        return TrainingSet(made.frame, fitted)

    return fit
