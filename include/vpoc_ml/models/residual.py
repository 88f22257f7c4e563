"""Pre-norm residual network that starts as a constant prediction."""

from __future__ import annotations

from torch import Tensor, nn

from vpoc_ml.models.mlp import zero_linear
from vpoc_ml.models.outputs import Shifted

EXPANSION = 2


class Block(nn.Module):
    """x + Linear(act(Linear(LayerNorm(x)))); the last layer starts at zero, so the block starts as identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, EXPANSION * width)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.down = zero_linear(EXPANSION * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        inner: Tensor = self.down(self.dropout(self.act(self.up(self.norm(hidden)))))
        return hidden + inner


class ResidualNet(nn.Module):
    """Linear, one block per entry of ``hidden_dims``, LayerNorm, head.

    The width is ``hidden_dims[0]``; further entries only count blocks. The head starts at zero, so the
    untrained network predicts the start of its ``output`` for every row.
    """

    def __init__(
        self, inputs: int, hidden_dims: tuple[int, ...], dropout: float, output: Shifted | None = None
    ) -> None:
        super().__init__()
        width = hidden_dims[0]
        self.output = output or Shifted()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in hidden_dims))
        self.norm = nn.LayerNorm(width)
        self.head = zero_linear(width, self.output.size)

    @property
    def start(self) -> Tensor:
        """What the untrained net predicts, [outputs]."""
        return self.output.start

    def forward(self, guarded: Tensor) -> Tensor:
        """Return outputs [rows] or [rows, outputs] for guarded features [rows, features]."""
        outputs: Tensor = self.output(self.head(self.norm(self.blocks(self.stem(guarded)))))
        return outputs
