"""Attention between features: each feature is a token (FT-Transformer, Gorishniy et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vpoc_ml.models.mlp import zero_linear
from vpoc_ml.models.outputs import Shifted

HEAD_WIDTH = 8
EXPANSION = 2


class Attention(nn.Module):
    """Multi-head attention [rows, tokens, width] -> same shape, as plain matrix products that every engine supports."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH) if width % HEAD_WIDTH == 0 else 1
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.dropout = nn.Dropout(dropout)
        self.merge = zero_linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        split = self.queries_keys_values(tokens).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = split.movedim(-3, 0).transpose(-2, -3).unbind()  # [rows, heads, tokens, width of one]
        alike = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        mixed = self.dropout(torch.softmax(alike, dim=-1)) @ values
        merged: Tensor = self.merge(mixed.transpose(-2, -3).flatten(-2))
        return merged


class AttentionBlock(nn.Module):
    """x + attention(norm x), then x + two layers of norm x; both branches start at zero."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, dropout)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, EXPANSION * width)
        self.dropout = nn.Dropout(dropout)
        self.down = zero_linear(EXPANSION * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        inner: Tensor = self.down(self.dropout(torch.relu(self.up(self.norm(tokens)))))
        return tokens + inner


class FeatureAttention(nn.Module):
    """One token per feature and a summary token; one block per entry of ``hidden_dims``; the head reads the summary.

    The width of the tokens is ``hidden_dims[0]``; further entries only count blocks. Each head is 8 wide. The cost
    grows with the square of the number of features, so the network suits a few dozen of them.
    """

    def __init__(
        self, features: int, values: int, hidden_dims: tuple[int, ...], dropout: float, output: Shifted
    ) -> None:
        """Take ``features`` tokens of ``values`` numbers each: 1, or the bins of an encoding."""
        super().__init__()
        width = hidden_dims[0]
        self.shape = (features, values)
        bound = 1 / math.sqrt(values)
        self.weight = nn.Parameter(torch.empty(features, values, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(features, width).uniform_(-bound, bound))
        self.gather = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.blocks = nn.Sequential(*(AttentionBlock(width, dropout) for _ in hidden_dims))
        self.norm = nn.LayerNorm(width)
        self.head = zero_linear(width, output.size)
        self.output = output

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs [rows] or [rows, outputs] for inputs [rows, features * values]."""
        each = inputs.reshape(-1, *self.shape)
        tokens = torch.einsum("rfv,fvw->rfw", each, self.weight) + self.bias
        last = self.gather.expand(len(inputs), 1, -1)
        gathered = self.blocks(torch.cat((tokens, last.to(tokens.dtype)), dim=-2))[:, -1]
        outputs: Tensor = self.output(self.head(self.norm(gathered)))
        return outputs
