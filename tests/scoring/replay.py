"""A model of the features with all learners of a stack, and a market's features as the batch builds them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.artifacts.model_card import ModelCard, ModelPart
from vpoc_ml.config import ModelConfig, ProfileConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.features.build import build_features
from vpoc_ml.leakage.comparison import Market
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import LoadedModel
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.models.ridge import Ridge
from vpoc_ml.models.trees import fit_trees
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.scoring.batch import ScoringRules
from vpoc_ml.scoring.live import LiveModel
from vpoc_ml.scoring.open_session import Bar, LiveMarket

PROFILE = ProfileConfig()


def batch_features(market: Market, extras: tuple[str, ...] = ()) -> pl.DataFrame:
    """Return the features of all bars at once."""
    sessions, developing = (
        build(market.bars, market.instrument, PROFILE) for build in (build_sessions, build_developing)
    )
    return build_features(
        market.bars,
        sessions,
        developing,
        market.vix,
        market.instrument,
        market.predecessor,
        extras=extras,
        pair=market.pair if extras else None,
        covariates=market.covariates if extras else {},
    )


def live_market(market: Market, bars: pl.DataFrame, extras: tuple[str, ...] = ()) -> LiveMarket:
    """Return what a scorer of the market knows after ``bars``."""
    return LiveMarket(
        contract=market.bars["contract"][0],
        instrument=market.instrument,
        bars=bars,
        predecessor=market.predecessor,
        vix=market.vix,
        extras=extras,
        pair=market.pair if extras else None,
        covariates=market.covariates if extras else {},
    )


def stack(features: pl.DataFrame, rounds: int = 40) -> LiveModel:
    """Return a stack of net, ridge and trees on random targets, on which one row in five abstains."""
    names = features.columns[3:]
    raw = features.select(names).to_numpy().astype(np.float64)
    raw = raw[np.isfinite(raw).all(axis=1)]
    fitted = [fit_robust_scaling(column) for column in raw.T]
    statistics = NetworkInputs(
        features=tuple(names), median=tuple(one.median for one in fitted), scale=tuple(one.scale for one in fitted)
    )
    torch.manual_seed(0)
    config, draw = ModelConfig(), np.random.default_rng(3)
    net = build_model(config, statistics).eval()
    assert isinstance(net.body, ResidualNet)
    torch.nn.init.normal_(net.body.head.weight, std=0.05)
    guarded = net.guard(torch.from_numpy(raw)).numpy()
    trees = fit_trees((guarded, draw.random(len(raw))), None, seed=1, rounds=rounds)
    ridge = Ridge(np.append(0.01 * draw.standard_normal(len(names)), 0.5))
    parts = tuple(ModelPart(name=name, weight=1 / 3) for name in ("all", "ridge", "lightgbm"))
    described = ModelCard(features=tuple(names), model=config, zero_rank=0.5, parts=parts, slope=0.9)
    model = LoadedModel(described, net, trees=trees, ridge=ridge, weights=np.full(3, 1 / 3))
    limit = float(np.quantile(model.distances(raw), 0.8))
    quantiles = tuple(np.linspace(-0.001, 0.001, 1001).tolist())
    return LiveModel(model, ScoringRules(limit, (-0.4, 0.45), quantiles, 0.25), ModelKey("ES", "1m", "rank"), 7)


def new_bars(bars: pl.DataFrame) -> Iterator[Bar]:
    """Yield canonical bars as they arrive."""
    return map(Bar._make, bars.select(Bar._fields).iter_rows())
