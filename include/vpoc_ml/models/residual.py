"""Pre-norm residual network that starts as the constant predictor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPANSION = 2


class Block(nn.Module):
    """x + Linear(act(Linear(LayerNorm(x)))); the last layer starts at zero, so the block starts as identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, EXPANSION * width)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(EXPANSION * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        inner: Tensor = self.down(self.dropout(self.act(self.up(self.norm(hidden)))))
        return hidden + inner


class ResidualNet(nn.Module):
    """Linear, one block per entry of ``hidden_dims``, LayerNorm, head.

    The width is ``hidden_dims[0]``; further entries only count blocks. The head starts at zero, so the
    untrained net predicts ``start`` for every row, one value an output: 0.5, the mean of a rank target, or
    what another target's best constant is; the baseline to beat.
    """

    start: Tensor

    def __init__(
        self, inputs: int, hidden_dims: tuple[int, ...], dropout: float, start: tuple[float, ...] = (0.5,)
    ) -> None:
        super().__init__()
        width = hidden_dims[0]
        # rebuilt from the target, not part of the weights' file
        self.register_buffer("start", torch.tensor(start), persistent=False)
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in hidden_dims))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(start))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, guarded: Tensor) -> Tensor:
        """Return outputs around ``start``, not bounded, [rows] or [rows, outputs], for guarded [rows, features]."""
        offset: Tensor = self.head(self.norm(self.blocks(self.stem(guarded))))
        return torch.add(offset, self.start).squeeze(-1)
