"""Which engine takes the steps, and why: the fastest that pays for its building and agrees with the eager one."""

from __future__ import annotations

import copy
import logging
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vpoc_ml.config import TrainingConfig
from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.engines.program import why_not_fused
from vpoc_ml.training.loop.adamw_step import LOSS, THETA, finite_steps
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import StepSchedule

# Measured on one core: see benchmarks/bench_training.py. Beyond these a matrix library beats the fused loop.
FUSED_PARAMETERS, FUSED_ROWS = 10_000, 64
# What the compiled engine saves in a step, and takes to be built, for each parameter tensor: both grow with the number
# of operations in a step. The saving is the smallest measured, so building pays wherever it is chosen: see the table
# in docs/performance.md
SAVED_SECONDS, BUILD_SECONDS = 4e-5, 4.0

TEST_STEPS = 8
TEST_RATE, TEST_DECAY = 1e-3, 0.5
EXACT, ROUGH = 0.01, 0.5
FAILURES = (RuntimeError, OSError, ValueError, TypeError, AttributeError, AssertionError)
log = logging.getLogger(__name__)
Columns = tuple[Tensor, Tensor, Tensor]


class EngineChoice(NamedTuple):
    """An engine and the reason it was chosen."""

    engine: Engine
    reason: str


def choose_engine(
    net: nn.Module, config: TrainingConfig, objective: Objective, rows: Columns, batch: int, steps: int
) -> EngineChoice:
    """Return an engine that owns ``net``; one that fails its self-test is replaced by the eager engine.

    Args:
        net: on its device, in training mode.
        config: ``engine`` is read; auto decides by ``plan_engine``.
        objective: what is minimised.
        rows: inputs, target and weight of training rows on the device; the first are used for the self-test.
        batch: rows of a step.
        steps: largest number of steps of the run.
    """
    kind, reason = plan_engine(net, config, objective, batch, steps)
    if kind == "eager":
        return EngineChoice(Engine(net, config, objective), reason)
    original = copy.deepcopy(net)
    started = time.monotonic()
    try:
        engine = _class(kind)(net, config, objective)
        trouble = self_test(engine, original, rows, batch)
    except FAILURES as error:
        trouble = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    if trouble is None:
        return EngineChoice(engine, f"{reason}; self-test passed in {time.monotonic() - started:.1f} s")
    log.warning("the %s engine failed its self-test, the eager engine takes over: %s", kind, trouble)
    net.load_state_dict(original.state_dict())
    return EngineChoice(Engine(net, config, objective), f"{kind} failed its self-test: {trouble}")


def _class(kind: str) -> type[Engine]:
    """Import what is used only: compilers take seconds."""
    if kind == "fused":
        from vpoc_ml.training.engines.fused import FusedEngine

        return FusedEngine
    from vpoc_ml.training.engines.compiled import CompiledEngine

    return CompiledEngine


def plan_engine(
    net: nn.Module, config: TrainingConfig, objective: Objective, batch: int, steps: int
) -> tuple[str, str]:
    """Return the engine that the settings ask for or that pays, and why; nothing is built."""
    cannot = why_not_fused(net, config, objective)
    if config.engine == "fused" and cannot:
        return "eager", cannot
    if config.engine != "auto":
        return config.engine, f"training.engine is {config.engine}"
    parameters = sum(parameter.numel() for parameter in net.parameters())
    if cannot is None and parameters < FUSED_PARAMETERS and batch <= FUSED_ROWS:
        return "fused", f"{parameters} parameters and {batch} rows a step are less work than calling torch"
    tensors = len(list(net.parameters()))
    saved, build = steps * SAVED_SECONDS * tensors, BUILD_SECONDS * tensors
    if saved > build:
        return "compiled", f"{steps} steps save about {saved:.0f} s, building takes about {build:.0f} s"
    return "eager", f"{steps} steps save about {saved:.0f} s, building would take about {build:.0f} s"


def self_test(engine: Engine, original: nn.Module, rows: Columns, batch: int) -> str | None:
    """Return how a few steps of ``engine`` differ from the eager engine's, or None; the engine's state is put back.

    Without dropout the weights must agree to a hundredth of the way they went. The compiled engine cannot
    drop dropout without another build; where it is on, the losses must be alike.
    """
    count = min(TEST_STEPS, engine.config.monitor_steps, len(rows[0]) // batch)
    step_schedule = StepSchedule(batch, [TEST_RATE] * count, [TEST_DECAY] * count, list(range(count)))
    random = any(isinstance(module, nn.Dropout) and module.p > 0 for module in original.modules())
    if random and engine.name == "fused":
        calm = without_dropout(original)
        double = type(engine)(copy.deepcopy(calm), engine.config, engine.objective)
        return _difference(double, calm, rows, step_schedule, EXACT)
    kept = engine.snapshot()
    exact = not random and engine.config.precision == "fp32" and not engine.config.gradient_noise
    trouble = _difference(engine, original, rows, step_schedule, EXACT if exact else ROUGH)
    engine.restore(kept)
    engine.steps_taken = 0
    return trouble


def _difference(
    engine: Engine, original: nn.Module, rows: Columns, step_schedule: StepSchedule, allowed: float
) -> str | None:
    eager = Engine(copy.deepcopy(original), engine.config, engine.objective)
    start = eager.state[THETA].clone()
    engine.steps(rows, 0, step_schedule)
    eager.steps(rows, 0, step_schedule)
    theirs, ours = engine.records[: len(step_schedule.rates)], eager.records[: len(step_schedule.rates)]
    if not torch.equal(finite_steps(theirs), finite_steps(ours)):
        return "other steps were skipped"
    losses = _share(theirs[:, LOSS] - ours[:, LOSS], ours[:, LOSS])
    if not losses <= allowed:
        return f"losses differ by {losses:.2g} of their size"
    apart, went = engine.state[THETA] - eager.state[THETA], eager.state[THETA] - start
    share = _share(apart, went)
    if allowed == EXACT and not share <= allowed:
        return f"weights differ by {share:.2g} of the way they went"
    return None


def _share(apart: Tensor, whole: Tensor) -> float:
    """Return the size of one as a share of the other's; 0 where nothing is apart, as in rows without labels."""
    return float(apart.norm() / whole.norm()) if bool(apart.any()) else 0.0


def without_dropout(net: nn.Module) -> nn.Module:
    """Return a copy whose dropout layers let everything through."""
    calm = copy.deepcopy(net)
    for module in calm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return calm
