"""Which engine takes the steps: the fused one where it can train the network and is the faster one, else the eager one.

Measured with the shipped presets on one CPU core, see docs/performance.md: the fused engine is 2.4 times (203,000
parameters, 64 rows) to 73 times (299 parameters, 16 rows) as fast as the eager one.
"""

from __future__ import annotations

import copy
import logging
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vpoc_ml.config import TrainingConfig
from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.engines.program import fused_obstacle
from vpoc_ml.training.loop.adamw_step import LOSS, THETA, finite_steps
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import StepSchedule

# The largest network and batch for which ``auto`` takes the fused engine
FUSED_PARAMETERS, FUSED_ROWS = 250_000, 64

TEST_STEPS = 8
TEST_RATE, TEST_DECAY = 1e-3, 0.5
LARGEST_DIFFERENCE = 0.01
BUILD_ERRORS = (RuntimeError, OSError, ImportError)
log = logging.getLogger(__name__)
Columns = tuple[Tensor, Tensor, Tensor]


class EngineChoice(NamedTuple):
    """An engine and the reason it was chosen."""

    engine: Engine
    reason: str


def choose_engine(
    net: nn.Module, config: TrainingConfig, objective: Objective, rows: Columns, batch: int, setting: str = "auto"
) -> EngineChoice:
    """Return an engine that owns ``net``; a fused engine that fails its self-test is replaced by the eager engine.

    Args:
        net: on its device, in training mode.
        config: how the network is trained.
        objective: what is minimised.
        rows: inputs, target and weight of training rows on the device; the first are used for the self-test.
        batch: rows of a step.
        setting: ``machine.engine``.
    """
    kind, reason = plan_engine(net, config, objective, batch, setting)
    if kind == "eager":
        return EngineChoice(Engine(net, config, objective), reason)
    started = time.monotonic()
    try:
        from vpoc_ml.training.engines.fused import FusedEngine  # numba takes seconds to import and compile

        difference = self_test(FusedEngine, net, config, objective, rows, batch)
        if difference is None:
            passed = f"self-test passed in {time.monotonic() - started:.1f} s"
            return EngineChoice(FusedEngine(net, config, objective), f"{reason}; {passed}")
    except BUILD_ERRORS as error:
        difference = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    log.warning("the fused engine failed its self-test, the eager engine trains instead: %s", difference)
    return EngineChoice(Engine(net, config, objective), f"fused failed its self-test: {difference}")


def plan_engine(
    net: nn.Module, config: TrainingConfig, objective: Objective, batch: int, setting: str = "auto"
) -> tuple[str, str]:
    """Return the name of the engine, ``eager`` or ``fused``, and the reason; nothing is compiled."""
    if setting == "eager":
        return "eager", "machine.engine is eager"
    obstacle = fused_obstacle(net, config, objective)
    if obstacle is not None:
        return "eager", obstacle
    if setting == "fused":
        return "fused", "machine.engine is fused"
    parameters = sum(parameter.numel() for parameter in net.parameters())
    size = f"{parameters} parameters and {batch} rows a step"
    if parameters <= FUSED_PARAMETERS and batch <= FUSED_ROWS:
        return "fused", f"{size} are at most {FUSED_PARAMETERS} and {FUSED_ROWS}"
    return "eager", f"{size} are more than {FUSED_PARAMETERS} or {FUSED_ROWS}"


def self_test(
    kind: type[Engine], net: nn.Module, config: TrainingConfig, objective: Objective, rows: Columns, batch: int
) -> str | None:
    """Return how a few steps of another engine differ from the eager engine's, None if they agree.

    Both train copies of ``net`` without dropout, because the engines draw different masks. The weights must agree to a
    hundredth of the distance that they moved.
    """
    count = min(TEST_STEPS, config.monitor_steps, len(rows[0]) // batch)
    step_schedule = StepSchedule(batch, [TEST_RATE] * count, [TEST_DECAY] * count, list(range(count)))
    tested, eager = (each(without_dropout(net), config, objective) for each in (kind, Engine))
    start = eager.state[THETA].clone()
    for engine in (tested, eager):
        engine.steps(rows, 0, step_schedule)
    found, expected = tested.records[:count], eager.records[:count]
    if not torch.equal(finite_steps(found), finite_steps(expected)):
        return "other steps were skipped"
    losses = _relative(found[:, LOSS] - expected[:, LOSS], expected[:, LOSS])
    if not losses <= LARGEST_DIFFERENCE:
        return f"losses differ by {losses:.2g} of their size"
    weights = _relative(tested.state[THETA] - eager.state[THETA], eager.state[THETA] - start)
    if not weights <= LARGEST_DIFFERENCE:
        return f"weights differ by {weights:.2g} of the distance that they moved"
    return None


def _relative(difference: Tensor, reference: Tensor) -> float:
    """Return the norm of a difference relative to the reference; 0 without a difference, as in unlabelled rows."""
    return float(difference.norm() / reference.norm()) if bool(difference.any()) else 0.0


def without_dropout(net: nn.Module) -> nn.Module:
    """Return a copy whose dropout layers change nothing."""
    copied = copy.deepcopy(net)
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return copied
