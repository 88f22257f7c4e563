"""Store the best and the last trained weights as models, with the other learners of a blend or stack."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import Tensor, nn

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.artifacts.model_card import ModelCard, ModelPart
from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.dataset.targets.base import MIDDLE
from vpoc_ml.models.build import stored_target
from vpoc_ml.models.bundle import BATCH_ROWS, save_model
from vpoc_ml.models.calibrated import set_reference
from vpoc_ml.models.ensemble import Ensemble
from vpoc_ml.models.forecaster import RIDGE, TREES, Floats, Forecaster, best_weights, mix
from vpoc_ml.models.guard import GuardedNet
from vpoc_ml.models.ridge import Ridge, fit_ridge
from vpoc_ml.models.stacking import fit_stack
from vpoc_ml.models.trees import SQUARED, Trees, fit_trees, huber, weak_signal
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
        frame = pl.read_parquet(run_dir / "training_set.parquet", columns=["split", "y", "weight"])
        known = frame.with_columns(pl.when(pl.col("weight") > 0).then(pl.col("y")).otherwise(float("nan")))
        train, validation = (
            known.filter(pl.col("split") == part)["y"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            for part in ("train", "validation")
        )
        if statistics.target is None:
            return cls(train, validation, statistics.zero_rank)
        quantiles = np.asarray(statistics.target_quantiles, dtype=np.float64)
        return cls(train, validation, float(interpolated_rank(np.zeros(1), quantiles)[0]))


def save_models(
    run_dir: Path,
    trainer: Trainer,
    net: GuardedNet,
    config: RunConfig,
    statistics: FeatureStatistics,
    model_card: ModelCard,
) -> tuple[tuple[ModelPart, ...] | None, int | None]:
    """Write the best and the last weights (averaged ones, where averaging is on) as models of their own.

    Ridge and trees are fitted on the rows that trained the networks. Weights of several parts, and the slope of a
    stack, are fitted on the validation rows, for each of the two models; their scores come from the code that scores
    new bars.

    Args:
        run_dir: folder of the run.
        trainer: after training.
        net: its network, with the guard.
        config: sections ``model`` and ``training`` are read.
        statistics: ``feature_statistics.json``.
        card: description of the models; name, groups and parts are added here.

    Returns:
        Parts of the best model with their weights, None for a single part; number of trees, None without trees.
    """
    learners = config.model.learners
    stacked = len(learners) > 1
    blended = config.model.blend == "lightgbm"
    several = blended or stacked or len(config.model.groups) > 1
    ranks = Ranks.read(run_dir, statistics) if several else None
    trees = _trees(trainer, ranks, stacked) if ranks and (blended or TREES in learners) else None
    ridge = _ridge(trainer, ranks) if ranks and RIDGE in learners else None
    session = _validation_sessions(run_dir) if stacked else None
    if config.model.groups and isinstance(net.body, Ensemble):
        model_card = model_card.model_copy(update={"groups": net.body.columns})
    saved = model_card
    weights: dict[str, Tensor] = {"final_model": trainer.engine.state[AVERAGE].clone(), "best_model": trainer.best}
    for name, flat in weights.items():
        with trainer.engine.using(flat):
            forecaster = Forecaster(_on_cpu(net.body), stored_target(statistics), trees, ridge=ridge)
            if ranks is not None:
                saved = _with_parts(model_card, forecaster, trainer.data.validation, ranks, session)
            save_model(run_dir, name, net, saved.model_copy(update={"name": name}), trees, ridge)
    log.info("parts: %s", ", ".join(f"{part.name} {part.weight:.3f}" for part in saved.parts or ()) or "one")
    return saved.parts, trees.rounds if trees else None


def _ridge(trainer: Trainer, ranks: Ranks) -> Ridge:
    train, validation = (rows.inputs.cpu().numpy() for rows in (trainer.data.train, trainer.data.validation))
    return fit_ridge((train, ranks.train), (validation, ranks.validation))


def _validation_sessions(run_dir: Path) -> Ints:
    """Return the number of the session of each validation row [rows], increasing with time."""
    chosen = pl.scan_parquet(run_dir / "training_set.parquet").filter(pl.col("split") == "validation")
    return chosen.select(pl.col("session").rank("dense").cast(pl.Int64)).collect()["session"].to_numpy()


def _trees(trainer: Trainer, ranks: Ranks, stacked: bool) -> Trees:
    train, validation = (rows.inputs.cpu().numpy() for rows in (trainer.data.train, trainer.data.validation))
    objective = trainer.objective
    loss = huber(objective.delta) if objective.kind in ("huber", "adaptive_huber") else SQUARED
    loss = weak_signal(len(train)) if stacked else loss
    trees = fit_trees((train, ranks.train), (validation, ranks.validation), trainer.config.seed, loss)
    log.info("%d trees fitted on %d rows", trees.rounds, len(train))
    return trees


def _on_cpu(body: nn.Module) -> nn.Module:
    own = copy.deepcopy(body)
    set_reference(own, None)
    return own.cpu()


def _with_parts(
    model_card: ModelCard, forecaster: Forecaster, validation: Rows, ranks: Ranks, session: Ints | None
) -> ModelCard:
    """Return the card with the weights that fit the validation rows, and the score of a zero return.

    With ``session`` [rows] they are those of a stack, and its slope is added.
    """
    guarded = validation.inputs.cpu()
    blocks = [forecaster.parts(guarded[at : at + BATCH_ROWS]) for at in range(0, len(guarded), BATCH_ROWS)]
    scores = np.concatenate(blocks, axis=1)
    zeros = np.array([ranks.zero if name in (RIDGE, TREES) else model_card.zero_rank for name in forecaster.names])
    if session is None:
        weights, slope = best_weights(scores, ranks.validation), None
        parts = tuple(ModelPart(name=n, weight=float(w)) for n, w in zip(forecaster.names, weights, strict=True))
    else:
        stack = fit_stack(scores, ranks.validation, session, forecaster.names, MIDDLE)
        parts, slope = stack.parts, stack.slope
        weights = np.array([part.weight for part in parts])
    zero_rank = float(mix(zeros[:, None], weights, slope)[0]) if slope is not None else float(weights @ zeros)
    return model_card.model_copy(update={"parts": parts, "slope": slope, "zero_rank": zero_rank})
