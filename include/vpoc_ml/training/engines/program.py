"""A network as a list of operations on one workspace: what the fused engine can compute, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from vpoc_ml.config import TrainingConfig
from vpoc_ml.models.mlp import PlainMLP, ReferenceMLP, ReferenceOutputs
from vpoc_ml.models.outputs import Shifted
from vpoc_ml.models.residual import Block, ResidualNet
from vpoc_ml.training.loop.objective import Objective

LINEAR, NORM, RELU, DROPOUT, ADD, SHIFT, SIGMOID = range(7)
HUBER, MSE, BCE, ADAPTIVE_HUBER = range(4)
LOSSES = {"huber": HUBER, "mse": MSE, "bce": BCE, "adaptive_huber": ADAPTIVE_HUBER}


@dataclass(frozen=True)
class Program:
    """Operations int64 [n, 7]: code, rows in, rows out, first row in, first row out, first weight, first bias.

    Activations are rows of a workspace, one column per row of the batch; the inputs are its first rows.
    Normalisation also keeps the centred rows and, after them, the reciprocal deviation; dropout keeps its
    factors. Their first row stands where others have the first weight, or the first row in. ``numbers`` [n]
    holds epsilon of a normalisation, probability of a dropout, the constant of a shift.
    """

    operations: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float32]
    inputs: int
    rows: int
    output: int


def fused_obstacle(net: nn.Module, config: TrainingConfig, objective: Objective) -> str | None:
    """Return the reason that the fused engine cannot train this, None if it can."""
    if next(net.parameters()).device.type != "cpu":
        return "the fused engine runs on the CPU"
    if getattr(net, "members", 1) != 1:
        return "the fused engine trains one network at a time"
    if config.precision != "fp32":
        return f"the fused engine computes in fp32, not {config.precision}"
    if config.gradient_noise:
        return "the fused engine adds no gradient noise"
    if objective.kind not in LOSSES:
        return f"the fused engine has no loss {objective.kind}"
    if program_of(net) is None:
        return f"the fused engine cannot compute {type(net).__name__} with these outputs"
    return None


def program_of(net: nn.Module) -> Program | None:
    """Return the program of a network with one output, or None if it is of a kind without one."""
    builder = _Builder(net)
    try:
        if isinstance(net, ReferenceMLP):
            builder.sequence(net.layers)
            builder.plain(SIGMOID)
        elif isinstance(net, ResidualNet):
            _residual(builder, net)
        elif isinstance(net, PlainMLP | ReferenceOutputs) and type(net.output) is Shifted:
            builder.sequence(net.layers)
            builder.plain(SHIFT, number=float(net.output.start.reshape(-1)[0]))
        else:
            return None
    except NotImplementedError:
        return None
    return builder.program() if builder.size == 1 else None


def _residual(builder: _Builder, net: ResidualNet) -> None:
    builder.layer(net.stem)
    for block in net.blocks:
        assert isinstance(block, Block)
        skipped = builder.at
        for layer in (block.norm, block.up, block.act, block.dropout, block.down):
            builder.layer(layer)
        builder.plain(ADD, source=skipped)
    builder.layer(net.norm)
    builder.layer(net.head)
    builder.plain(SHIFT, number=float(net.start.reshape(-1)[0]))


class _Builder:
    """Appends operations; ``at`` and ``size`` are the rows that the next one reads."""

    def __init__(self, net: nn.Module) -> None:
        self.offsets: dict[int, int] = {}
        start = 0
        for parameter in net.parameters():
            self.offsets[id(parameter)] = start
            start += parameter.numel()
        first = next(module for module in net.modules() if isinstance(module, nn.Linear | nn.LayerNorm))
        self.size = first.in_features if isinstance(first, nn.Linear) else int(first.normalized_shape[0])
        self.inputs, self.at, self.used = self.size, 0, self.size
        self.operations: list[list[int]] = []
        self.numbers: list[float] = []

    def sequence(self, layers: nn.Module) -> None:
        for layer in layers.children():
            self.layer(layer)

    def layer(self, layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear):
            self._weighted(LINEAR, layer.weight, layer.bias, layer.out_features)
        elif isinstance(layer, nn.LayerNorm):
            self._weighted(NORM, layer.weight, layer.bias, self.size, layer.eps, spare=self.size + 1)
        elif isinstance(layer, nn.ReLU):
            self.plain(RELU)
        elif isinstance(layer, nn.Dropout):
            if layer.p > 0:
                self.plain(DROPOUT, source=self._take(self.size), number=layer.p)
        else:
            raise NotImplementedError(type(layer).__name__)

    def plain(self, code: int, source: int = 0, number: float = 0.0) -> None:
        """An operation on the current rows, in place."""
        self._append([code, self.size, self.size, source, self.at, 0, 0], number)

    def _weighted(
        self, code: int, weight: Tensor, bias: Tensor, size: int, number: float = 0.0, spare: int = 0
    ) -> None:
        out = self._take(size + spare)
        offsets = [self.offsets[id(weight)], self.offsets[id(bias)]]
        self._append([code, self.size, size, self.at, out, *offsets], number)
        self.at, self.size = out, size

    def _append(self, operation: list[int], number: float) -> None:
        self.operations.append(operation)
        self.numbers.append(number)

    def _take(self, rows: int) -> int:
        first, self.used = self.used, self.used + rows
        return first

    def program(self) -> Program:
        operations = np.array(self.operations, dtype=np.int64)
        return Program(operations, np.array(self.numbers, dtype=np.float32), self.inputs, self.used, self.at)
