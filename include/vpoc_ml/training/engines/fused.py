"""The fused engine: many steps in one call of a compiled loop. For small nets with one output, on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from numba.core.errors import NumbaError
from torch import Tensor

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.training.engines import fused_kernel as kernel
from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.engines.program import LOSSES, fused_obstacle, program_of
from vpoc_ml.training.loop import adamw_step
from vpoc_ml.training.loop.adamw_step import BETA1, BETA2, EPSILON
from vpoc_ml.training.loop.schedule import StepSchedule

CACHE_LINE = 64
RULES = kernel.Rules(
    beta1=BETA1,
    beta2=BETA2,
    epsilon=EPSILON,
    norm_decay=adamw_step.NORM_DECAY,
    norm_steps=float(adamw_step.NORM_STEPS),
    deviations=adamw_step.DEVIATIONS,
    least_spread=adamw_step.LEAST_SPREAD,
    delta_decay=adamw_step.DELTA_DECAY,
    delta_quantile=adamw_step.DELTA_QUANTILE,
    delta_range=adamw_step.DELTA_RANGE,
    delta_rows=float(adamw_step.DELTA_ROWS),
)


@dataclass
class FusedEngine(Engine):
    """Same state, same guards, same records as the eager engine; dropout draws other masks from the same seeds."""

    name: ClassVar[str] = "fused"

    def __post_init__(self) -> None:
        super().__post_init__()
        reason = fused_obstacle(self.net, self.config, self.objective)
        program = program_of(self.net)
        if reason is not None or program is None:
            raise InvalidValueError("machine.engine", "fused", f"auto or eager: {reason}")
        self.program = program
        self.work = aligned(program.rows, 0)

    def steps(self, rows: tuple[Tensor, Tensor, Tensor], start: int, step_schedule: StepSchedule) -> None:
        """Take all steps of ``plan`` in one call; see ``Engine.steps``."""
        count, program, config = len(step_schedule.rates), self.program, self.config
        part = slice(start * step_schedule.batch, (start + count) * step_schedule.batch)
        self._fit_workspace(step_schedule.batch)
        arguments = (
            self.state.numpy(),
            self.step_state[:, 0].numpy(),
            self.records[self.steps_taken : self.steps_taken + count, :, 0].numpy(),
            *(np.ascontiguousarray(column[part].numpy()) for column in rows),
            np.asarray(step_schedule.rates) * float(self.factor[0]),
            np.asarray(step_schedule.decays, dtype=np.float64),
            np.asarray(step_schedule.seeds, dtype=np.uint64),
            program.operations,
            program.numbers,
            program.output,
            self.work,
            self.slopes,
            self.spare,
            self.gradient.numpy(),
            self.constants.decayed.numpy(),
            LOSSES[self.objective.kind],
            np.float32(config.huber_delta),
            config.gradient_clip,
            config.clipping == "adaptive",
            config.weight_decay,
            self.select,
            RULES,
        )
        try:
            kernel.take_steps(*arguments)
        except NumbaError as error:  # it could not be compiled
            raise RuntimeError(f"numba: {error}") from error
        self.steps_taken += count

    def _fit_workspace(self, batch: int) -> None:
        if self.work.shape[1] != batch:
            self.work, self.slopes, self.spare = (aligned(rows, batch) for rows in (*[self.program.rows] * 2, 2))


def aligned(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Return zeros [rows, columns] that start on a cache line: vectors across two lines cost half the speed."""
    raw = np.zeros(4 * rows * columns + CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + 4 * rows * columns].view(np.float32).reshape(rows, columns)
