"""Store the best and the last trained weights as models, with the other learners of a blend or stack."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import Tensor

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.artifacts.model_card import ModelCard, ModelPart
from vpoc_ml.artifacts.training_files import BEST_MODEL, FINAL_MODEL, TRAINING_SET
from vpoc_ml.artifacts.training_result import RefitChoices
from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.models.build import stored_target
from vpoc_ml.models.bundle import BATCH_ROWS, save_model
from vpoc_ml.models.calibrated import set_reference
from vpoc_ml.models.ensemble import Ensemble
from vpoc_ml.models.forecaster import Floats, Forecaster, best_weights
from vpoc_ml.models.guard import GuardedNet
from vpoc_ml.models.own import OwnPart, fit_own
from vpoc_ml.models.ridge import Ridge, fit_ridge
from vpoc_ml.models.stacking import ENOUGH_SESSIONS, RIDGE, SIMPLE, TREES, StackRows, fit_stack, is_stack, mix
from vpoc_ml.models.trees import ROUNDS, SQUARED, Trees, fit_trees, huber, weak_signal
from vpoc_ml.training.engines.eager import AVERAGE
from vpoc_ml.training.loop.data import Rows
from vpoc_ml.training.loop.epochs import Trainer

Meta = dict[str, Any]
Ints = npt.NDArray[np.int64]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """Rank targets [rows] of both parts, NaN where a row does not count, and the rank of a zero return."""

    train: Floats
    validation: Floats
    zero: float

    @classmethod
    def read(cls, run_dir: Path, statistics: FeatureStatistics) -> Ranks:
        """Read them: ``y``, which every training set has, whatever its target is."""
        frame = pl.read_parquet(run_dir / TRAINING_SET, columns=["split", "y", "weight"])
        known = frame.with_columns(pl.when(pl.col("weight") > 0).then(pl.col("y")).otherwise(float("nan")))
        train, validation = (
            known.filter(pl.col("split") == part)["y"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            for part in ("train", "validation")
        )
        if statistics.target is None:
            return cls(train, validation, statistics.zero_rank)
        quantiles = np.asarray(statistics.target_quantiles, dtype=np.float64)
        return cls(train, validation, float(interpolated_rank(np.zeros(1), quantiles)[0]))


@dataclass(frozen=True)
class SavedParts:
    """Parts of a stored model with their weights, None for a single part; slope of a stack; trees; ridge penalty."""

    parts: tuple[ModelPart, ...] | None
    slope: float | None
    trees: int | None
    ridge_penalty: float | None


def save_models(
    run_dir: Path,
    trainer: Trainer,
    net: GuardedNet,
    config: RunConfig,
    statistics: FeatureStatistics,
    model_card: ModelCard,
    choices: RefitChoices | None = None,
) -> SavedParts:
    """Write the best and the last weights (averaged ones, where averaging is on) as models of their own.

    Ridge, trees and own learners are fitted on the rows that trained the networks. Weights of several parts, and the
    slope of a stack, are fitted on the validation rows, for each of the two models; their scores come from the code
    that scores new bars. Fewer than 20 independent labels, as of a few sessions whose labels span sessions, are no
    evidence for a slope: the stack is the constant. A refit takes weights, slope, penalty and number of trees from its
    choices.

    Args:
        run_dir: folder of the run.
        trainer: after training.
        net: its network, with the guard.
        config: sections ``model`` and ``training`` are read.
        statistics: ``feature_statistics.json``.
        card: description of the models; name, groups and parts are added here.
        choices: what the folds chose; None for a training set with validation rows.

    Returns:
        What the parts of the best model are.
    """
    learners = config.model.learners
    stacked = is_stack(config.model)
    blended = config.model.blend == "lightgbm"
    several = blended or stacked or len(config.model.groups) > 1
    ranks = Ranks.read(run_dir, statistics) if several else None
    ridge = _ridge(trainer, ranks, choices) if ranks and RIDGE in learners else None
    trees = _trees(trainer, ranks, stacked, choices) if ranks and (blended or TREES in learners) else None
    own = _own(trainer, ranks, config.model.own) if ranks else {}
    session: Ints | None = None
    independent = statistics.effective_rows.get("validation", ENOUGH_SESSIONS)
    if stacked and choices is None:
        held = pl.scan_parquet(run_dir / TRAINING_SET).filter(pl.col("split") == "validation")
        session = held.select(pl.col("session").rank("dense").cast(pl.Int64)).collect()["session"].to_numpy()
    if config.model.groups and isinstance(net.body, Ensemble):
        model_card = model_card.model_copy(update={"groups": net.body.columns})
    saved = model_card
    weights: dict[str, Tensor] = {FINAL_MODEL: trainer.engine.state[AVERAGE].clone(), BEST_MODEL: trainer.best}
    for name, flat in weights.items():
        with trainer.engine.using(flat):
            body = copy.deepcopy(net.body)
            set_reference(body, None)
            forecaster = Forecaster(body.cpu(), stored_target(statistics), trees, ridge=ridge, own=own)
            if ranks is not None:
                fitted, slope = _weights(forecaster, trainer.data.validation, ranks, session, choices)
                if session is not None and independent < ENOUGH_SESSIONS:
                    slope = 0.0
                saved = _with_parts(model_card, forecaster.names, ranks.zero, fitted, slope, own)
            save_model(run_dir, name, net, saved.model_copy(update={"name": name}), trees, ridge, own)
    log.info("parts: %s", ", ".join(f"{part.name} {part.weight:.3f}" for part in saved.parts or ()) or "one")
    return SavedParts(
        saved.parts, saved.slope, trees.rounds if trees else None, ridge.penalty if ridge is not None else None
    )


def _ridge(trainer: Trainer, ranks: Ranks, choices: RefitChoices | None) -> Ridge:
    train, validation = (rows.inputs.cpu().numpy() for rows in (trainer.data.train, trainer.data.validation))
    if choices is not None and choices.ridge_penalty is not None:
        return fit_ridge((train, ranks.train), None, (choices.ridge_penalty,))
    return fit_ridge((train, ranks.train), (validation, ranks.validation))


def _trees(trainer: Trainer, ranks: Ranks, stacked: bool, choices: RefitChoices | None) -> Trees:
    train, validation = (rows.inputs.cpu().numpy() for rows in (trainer.data.train, trainer.data.validation))
    objective = trainer.objective
    loss = huber(objective.delta) if objective.kind in ("huber", "adaptive_huber") else SQUARED
    loss = weak_signal(len(train)) if stacked else loss
    held = None if choices else (validation, ranks.validation)
    rounds = choices.trees if choices and choices.trees else ROUNDS
    trees = fit_trees((train, ranks.train), held, trainer.config.seed, loss, rounds)
    log.info("%d trees fitted on %d rows", trees.rounds, len(train))
    return trees


def _own(trainer: Trainer, ranks: Ranks, names: Sequence[str]) -> dict[str, OwnPart]:
    if not names:
        return {}
    return fit_own(names, trainer.data.train.inputs.cpu().numpy(), ranks.train, trainer.config.seed)


def _weights(
    forecaster: Forecaster, validation: Rows, ranks: Ranks, session: Ints | None, choices: RefitChoices | None
) -> tuple[Floats, float | None]:
    """Return the weight of each part, and the slope of a stack.

    They come from the choices of a refit, else from the validation rows; with ``session`` [rows] they are a stack's.
    With few sessions networks have no weight: the same rows have chosen their epoch.
    """
    if choices is not None:
        return np.array([choices.weights[name] for name in forecaster.names]), choices.slope
    guarded = validation.inputs.cpu()
    blocks = [forecaster.parts(guarded[at : at + BATCH_ROWS]) for at in range(0, len(guarded), BATCH_ROWS)]
    scores = np.concatenate(blocks, axis=1)
    if session is None:
        return best_weights(scores, ranks.validation), None
    few = len(np.unique(session)) < ENOUGH_SESSIONS
    names = [name for name in forecaster.names if name in SIMPLE or not few]
    known = scores[[forecaster.names.index(name) for name in names]]
    stack = fit_stack(StackRows.of(known, ranks.validation, session, names), validation=True)
    weights = {part.name: part.weight for part in stack.parts}
    return np.array([weights.get(name, 0.0) for name in forecaster.names]), stack.slope


def _with_parts(
    model_card: ModelCard,
    names: Sequence[str],
    zero_rank: float,
    weights: Floats,
    slope: float | None,
    own: Iterable[str],
) -> ModelCard:
    """Return the card with the parts, the slope and the score of a zero return, ``zero_rank`` for all but networks."""
    rankers = {*SIMPLE, *own}
    zeros = np.array([zero_rank if name in rankers else model_card.zero_rank for name in names])
    parts = tuple(
        ModelPart(name=name, weight=float(weight), zero_rank=float(zero))
        for name, weight, zero in zip(names, weights, zeros, strict=True)
    )
    zero = float(mix(zeros[:, None], weights, slope)[0]) if slope is not None else float(weights @ zeros)
    return model_card.model_copy(update={"parts": parts, "slope": slope, "zero_rank": zero})
