"""Dirty markets with a known truth, the grid of 36 configurations, and each protection's switch.

Shared by the tests and ``benchmarks/bench_stress.py``. Every case is a whole training job of the product.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
import torch

from vpoc_ml.artifacts.training_progress import WindowRecord
from vpoc_ml.config import resolve
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.errors import TrainingUnstableError
from vpoc_ml.lake.atomic import write_json, write_text
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop import adamw_step, epochs
from vpoc_ml.training.loop import adamw_step as columns
from vpoc_ml.training.loop.adamw_step import LOG_DELTA

FEATURES = 10
BAD_ROWS, HUGE_ROWS, BAD_TARGETS, ZERO_DENOMINATORS = 0.0131, 0.001, 0.002, 0.003
EVALUATED = 20_000
NOT_FINITE = [math.nan, math.inf, -math.inf]

NETS: dict[str, dict[str, Any]] = {
    "residual": {"model.kind": "residual", "model.hidden_dims": (16,)},
    "ambitious": {"model.kind": "reference_mlp", "model.hidden_dims": (512, 256, 128, 64), "model.dropout": 0.1},
}
PARAMETERS = {"residual": 1329, "ambitious": 180_117}


@dataclass(frozen=True)
class Market:
    """Raw features [rows, 10], next returns [rows] and, per row, the probability of an up move that made them.

    The last ``EVALUATED`` rows validate. ``clean`` are the features before the dirt, for a look at predictions.
    """

    raw: np.ndarray
    clean: np.ndarray
    returns: np.ndarray
    up: np.ndarray

    def captured(self, predicted: np.ndarray) -> float:
        """Share of the attainable edge over 50 % that a prediction's sign earns in expectation on the judged rows."""
        up = self.up[-EVALUATED:]
        earned = np.where(predicted > 0.5, up, 1 - up).mean() - 0.5
        return float(earned / (np.maximum(up, 1 - up).mean() - 0.5))


def dirty_market(rows: int, seed: int = 3, strength: float = 1.2) -> Market:
    """Make ``rows`` training rows and the judged ones.

    Five informative columns with fat tails and scales from 1e-4 to 1e6, a price, a volume that is mostly zero, a
    constant, noise, and a ratio x / (y + 1e-8) whose denominator is zero in 0.3 % of the rows (to 1e14). 1.31 %
    of the rows have a NaN or an infinity in a column, 0.1 % 1e25, and 0.2 % of the training returns are not finite.
    """
    rng = np.random.default_rng(seed)
    count = rows + EVALUATED
    latent = rng.normal(size=(count, 6))
    signal = np.tanh(latent[:, 0]) + np.sin(1.5 * latent[:, 1]) - 0.5 * latent[:, 2] * np.tanh(latent[:, 3])
    up = 1 / (1 + np.exp(-strength * signal))
    returns = np.where(rng.uniform(size=count) < up, 1, -1) * np.abs(rng.standard_t(3, size=count)) * 1e-4
    clean = np.empty((count, FEATURES))
    clean[:, :5] = np.sinh(1.35 * latent[:, :5]) * [1e-4, 1.0, 30.0, 1e3, 1e6]
    clean[:, 5] = 5000 + np.cumsum(rng.normal(size=count)) * 0.25
    clean[:, 6] = np.where(rng.uniform(size=count) < 0.7, 0, rng.pareto(1.5, size=count) * 100)
    clean[:, 7] = 1.0
    clean[:, 8] = rng.standard_t(2, size=count)
    zero = rng.uniform(size=count) < ZERO_DENOMINATORS
    clean[:, 9] = rng.normal(size=count) * 1e6 / (np.where(zero, 0, rng.uniform(1, 2, size=count)) + 1e-8)
    raw = clean.copy()
    for share, values in ((BAD_ROWS, NOT_FINITE), (HUGE_ROWS, [1e25, -1e25])):
        hit = np.flatnonzero(rng.uniform(size=count) < share)
        raw[hit, rng.integers(FEATURES, size=len(hit))] = rng.choice(values, size=len(hit))
    hit = np.flatnonzero(rng.uniform(size=rows) < BAD_TARGETS)
    returns[hit] = rng.choice(NOT_FINITE, size=len(hit))
    return Market(raw.astype(np.float32), clean.astype(np.float32), returns, up)


def write_market(folder: Path, market: Market, settings: dict[str, Any]) -> Path:
    """Write the run folder of a training job on ``market``."""
    train = len(market.raw) - EVALUATED
    target = RankTarget.fit(market.returns[:train])
    names = [f"f{index}" for index in range(FEATURES)]
    split = np.where(np.arange(len(market.raw)) < train, "train", "validation")
    frame = pl.DataFrame({"split": split, "y": target.apply(market.returns).astype(np.float32)})
    raw = pl.DataFrame(market.raw, schema=names)
    statistics = [fit_robust_scaling(market.raw[:train, index]) for index in range(FEATURES)]
    folder.mkdir(parents=True)
    pl.concat([frame.with_columns(weight=pl.lit(1.0, pl.Float32)), raw], how="horizontal").write_parquet(
        folder / "training_set.parquet"
    )
    write_text(folder / "config.json", resolve("nightly", {"model.learners": "net", **settings}).to_json())
    write_json(
        folder / "feature_statistics.json",
        {
            "features": names,
            "median": [each.median for each in statistics],
            "scale": [each.scale for each in statistics],
            "zero_rank": target.zero_score,
            "target_quantiles": target.quantiles(),
            "splits": {},
        },
    )
    return folder


class Case(NamedTuple):
    """One configuration of the grid."""

    net: str
    precision: str
    batch: int
    rate: float

    def settings(self) -> dict[str, Any]:
        """Return it as settings of a run: one epoch, no ladder, so that nothing else can rescue it."""
        return {
            **NETS[self.net],
            "training.precision": self.precision,
            "training.batch_size": self.batch,
            "training.learning_rate": self.rate,
            "training.epochs": 1,
            "training.warmup_steps": 50,
            "training.weight_decay": 1e-4,
            "machine.fallback": False,
            "machine.device": "cpu",
            "machine.engine": "eager",
        }


GRID = [Case(*each) for each in itertools.product(NETS, ("fp32", "bf16", "fp16"), (16, 64), (2e-4, 2e-3, 2e-2))]


class CaseResult(NamedTuple):
    """What a training job left. Losses are of the judged rows; ``nan_losses``: steps whose loss was not finite.

    ``captured`` and ``loss`` are None where no model came out.
    """

    steps: int
    nan_losses: int
    rollbacks: int
    constant: float | None
    loss: float | None
    captured: float | None
    nonfinite_predictions: int
    error: str

    @property
    def falling(self) -> bool:
        """Whether validation got better than the constant predictor, which is where the network starts."""
        return self.loss is not None and self.constant is not None and self.loss < self.constant

    @property
    def nan_share(self) -> float:
        """Share of the steps whose loss was not finite."""
        return self.nan_losses / max(self.steps, 1)


def run_case(folder: Path, market: Market, settings: dict[str, Any]) -> CaseResult:
    """Train on ``market`` and evaluate the stored model on the evaluation rows, dirt included."""
    run = write_market(folder, market, settings)
    error = ""
    try:
        result = train_run(run)
    except TrainingUnstableError as unstable:
        error = str(unstable)
    lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    windows = [line for line in lines if line["kind"] == "window"]
    facts = (windows[-1]["step"], sum(line["skipped"] for line in windows), windows[-1]["rollbacks"])
    if error:
        return CaseResult(*facts, None, None, None, 0, error)
    predicted = load_model(run / "best_model.json").predict(market.raw[-EVALUATED:])
    lost = int((~np.isfinite(predicted)).sum())
    losses = (result.validation_constant, result.best_validation_loss, market.captured(predicted))
    return CaseResult(*facts, *losses, lost, "")


# ---------------------------------------------------------------- protections, each with its switch


@contextmanager
def without(*protections: str) -> Iterator[None]:
    """Train with protections switched off: guard, mask, select, rollback, delta (its guards), scale (its floor)."""
    with ExitStack() as stack:
        for name in protections:
            stack.enter_context(SWITCHES[name]())
        yield


def _no_guard() -> Any:
    return mock.patch("vpoc_ml.models.guard.Guard.forward", lambda self, raw: raw.float())


def _no_mask() -> Any:
    return mock.patch("vpoc_ml.training.loop.data.mask_targets", lambda target, weight: (target, weight))


def _no_select() -> Any:
    plain = Engine.__init__

    def made(self: Engine, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **{**kwargs, "select": False})

    return mock.patch.object(Engine, "__init__", made)


def _no_rollback() -> Any:
    return mock.patch("vpoc_ml.training.loop.monitor.Monitor.defect", return_value=None)


@contextmanager
def _no_delta_guard() -> Iterator[None]:
    """Let the adaptive delta follow whatever comes: no finite check, no bounds, also in a step that is skipped."""
    guarded = adamw_step.next_step_state

    def careless(step_state: Any, counted: Any, batch: Any, norm: Any, limit: Any, finite: Any, config: Any) -> Any:
        moved = guarded(step_state, counted, batch, norm, limit, finite, config)
        reached = torch.quantile(batch.residuals.abs(), columns.DELTA_QUANTILE, dim=-1).double()
        share = 1 - columns.DELTA_DECAY
        moved[LOG_DELTA] = (1 - share) * step_state[LOG_DELTA] + share * reached.log()
        return moved

    finite_or_not = vars(epochs)["window_record"]

    def shown(*facts: Any, **more: Any) -> WindowRecord:
        record = finite_or_not(*facts, **more)
        return record.model_copy(update={key: _finite(value) for key, value in record.to_json().items()})

    with mock.patch.object(adamw_step, "next_step_state", careless), mock.patch.object(epochs, "window_record", shown):
        yield


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _no_scale_floor() -> Any:
    """Halve the loss scale for every bad batch, for ever."""
    floored = columns.next_scale

    def careless(step_state: Any, finite: Any) -> Any:
        scale, streak = floored(step_state, finite)
        return torch.where(finite, scale, step_state[columns.SCALE] / 2), streak

    return mock.patch.object(columns, "next_scale", careless)


SWITCHES = {
    "guard": _no_guard,
    "mask": _no_mask,
    "select": _no_select,
    "rollback": _no_rollback,
    "delta": _no_delta_guard,
    "scale": _no_scale_floor,
}


@contextmanager
def shock(first: int, steps: int, factor: float = 1e6) -> Iterator[None]:
    """Multiply the inputs of ``steps`` steps by ``factor``, behind the guard, where nothing bounds them any more."""
    plain, taken = Engine.single_step, WeakKeyDictionary[Any, int]()

    def shaken(self: Engine, inputs: torch.Tensor, *rest: Any) -> torch.Tensor:
        number = taken.get(self.net, 0)
        taken[self.net] = number + 1
        hit = first <= number < first + steps
        return plain(self, inputs * factor if hit else inputs, *rest)

    with mock.patch.object(Engine, "single_step", shaken):
        yield
