"""The product's own builders in the form the leakage checks take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.fitted_baselines import FittedRidge
from vpoc_ml.artifacts.track_record import LabelledSession
from vpoc_ml.config import DatasetConfig, EvaluationConfig, ProfileConfig, RunConfig
from vpoc_ml.dataset.assemble import LabelledFrame, assemble, fit_training_set, label_rows
from vpoc_ml.dataset.folds import FoldSessions, plan_folds, window_rows
from vpoc_ml.evaluation.baselines import fit_baselines, predict_ridge
from vpoc_ml.evaluation.evaluate import rank_of_zero
from vpoc_ml.evaluation.fold_predictions import predict_fold
from vpoc_ml.evaluation.stacked import stacked_track
from vpoc_ml.evaluation.walk_forward import forecasts_of, policies_by_fold
from vpoc_ml.features.build import build_features, build_in_chunks
from vpoc_ml.leakage.comparison import Build, Market
from vpoc_ml.leakage.folds import FittedFold, WalkForward
from vpoc_ml.leakage.training_set import Fit, Tables, TrainingSet
from vpoc_ml.market.instruments import Instrument
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


FOLDS = EvaluationConfig(fold="13", min_history_sessions=8)
"""Folds that the market of the proof can fill. A run's own settings are part of no proof's key."""
_SHARES = {name: DatasetConfig.model_fields[name].default for name in ("train_share", "validation_share")}
_HISTORY_SESSIONS = 20
"""Shortest window of the proof, where a run limits its window: enough for three training sessions and the gaps."""

_STACK_SESSIONS = 10
"""Sessions from which the proof fits a stack; its folds have fewer than those of a run."""


def walk_forward_builder(config: RunConfig) -> WalkForward:
    """Return the path from bars and features to the track record that a run takes, with ridge in the model's place.

    A fold fits targets, scaler, guard, bins and baselines. It trains no network; a network sees the same rows.
    """

    limit = config.dataset.history_sessions
    window = {"history_sessions": max(limit, _HISTORY_SESSIONS) if limit else 0}
    dataset = config.dataset.model_copy(update=_SHARES | window)

    def plan(tables: Tables) -> tuple[FoldSessions, ...]:
        days = _labelled(tables).frame.group_by("session", "contract", maintain_order=True).len("rows")
        sessions = [LabelledSession(**day, digest="") for day in days.iter_rows(named=True)]
        return plan_folds(sessions, dataset, FOLDS)

    def fit(tables: Tables, fold: FoldSessions) -> FittedFold:
        rows = _labelled(tables)
        window = window_rows(rows.frame, (fold.train[0], fold.train[-1]), (fold.validation[0], fold.validation[-1]))
        made = fit_training_set(replace(rows, frame=window), config)
        labelled = made.frame.filter(pl.col("weight") == 1)
        train, validation = (labelled.filter(pl.col("split") == name) for name in ("train", "validation"))
        zero_rank = rank_of_zero(train["ret"].to_numpy())
        baselines = fit_baselines(train, validation, made.features, zero_rank, config.model.guard_clip, trees=True)
        test = rows.frame.filter(pl.col("session").is_in(fold.test))
        model = RidgeModel(baselines.ridge, zero_rank)
        track = predict_fold(test, model, baselines, made.statistics.target_quantiles)
        numbers = made.statistics.model_dump() | baselines.model_dump()
        return FittedFold(TrainingSet(made.frame, numbers), track)

    def choose(track: pl.DataFrame, traded: Instrument) -> dict[date, object]:
        settings = config.model_copy(update={"evaluation": FOLDS})
        return dict(policies_by_fold(track, forecasts_of(track)[0], settings, traded))

    def stack(track: pl.DataFrame) -> dict[date, object]:
        return dict(stacked_track(track, config.evaluation.huber_delta, enough=_STACK_SESSIONS)[1])

    def _labelled(tables: Tables) -> LabelledFrame:
        return label_rows(tables.bars, tables.features, tables.front, tables.instrument, config)

    return WalkForward(plan, fit, choose, stack)


@dataclass(frozen=True)
class RidgeModel:
    """The ridge baseline in the form of a fold's model, with a second part that has every other coefficient.

    The second part has weight 0 until a stack of the two is fitted.
    """

    ridge: FittedRidge
    zero_rank: float

    @property
    def features(self) -> Sequence[str]:
        """Feature columns in model order."""
        return self.ridge.features

    @property
    def part_zero_ranks(self) -> Mapping[str, float]:
        """Score of an unchanged price of both parts."""
        return {"ridge": self.zero_rank, "half": self.zero_rank}

    def predict(self, features: npt.NDArray[np.floating], /) -> npt.NDArray[np.floating]:
        """Return the predicted rank of each row of ``features`` (n, f), raw and unscaled."""
        return self.mixed(self.parts(features))

    def parts(self, features: npt.NDArray[np.floating], /) -> npt.NDArray[np.float64]:
        """Return the predicted rank by all coefficients and by every other one, [2, n]."""
        rows = pl.DataFrame(features, schema=list(self.ridge.features))
        half = [each * (index % 2) for index, each in enumerate(self.ridge.coefficients)]
        both = (self.ridge, self.ridge.model_copy(update={"coefficients": tuple(half)}))
        return np.stack([predict_ridge(each, rows) for each in both])

    def mixed(self, parts: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
        """Return the first part."""
        return np.asarray(parts[0])
