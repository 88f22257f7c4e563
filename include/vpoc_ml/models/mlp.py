"""Plain networks: without normalisation, with batch normalisation, and the published reference (299 parameters)."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from vpoc_ml.models.calibrated import Calibrated
from vpoc_ml.models.outputs import Shifted

EPSILON = 1e-5


class PlainMLP(nn.Module):
    """(Linear, ReLU, Dropout) per width, Linear; the last one starts at zero, so the net starts as a constant."""

    def __init__(self, inputs: int, hidden_dims: tuple[int, ...], dropout: float, output: Shifted) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((inputs, *hidden_dims)):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, zero_linear(hidden_dims[-1], output.size))
        self.output = output

    def forward(self, guarded: Tensor) -> Tensor:
        """Return outputs [rows] or [rows, outputs] for guarded features [rows, features]."""
        outputs: Tensor = self.output(self.layers(guarded))
        return outputs


class BatchNorm(nn.Module):
    """Normalisation of each column by mean and variance: of the batch in training, of ``moments`` otherwise.

    Training changes no buffer. The running averages of ``torch.nn.BatchNorm1d`` are a state beside the weights that
    skipped steps, rollbacks, averaged weights and checkpoints would have to handle. ``moments`` [2, width], mean and
    variance, are computed when training ends (precise batch norm: Wu & Johnson 2021, "Rethinking Batch in BatchNorm").
    """

    moments: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("moments", torch.stack((torch.zeros(width), torch.ones(width))))

    def forward(self, hidden: Tensor, moments: Tensor) -> Tensor:
        """Return hidden [rows, width] normalised by ``moments``."""
        scale = self.weight * torch.rsqrt(moments[1] + EPSILON)
        return (hidden - moments[0]) * scale + self.bias


class BatchNormMLP(Calibrated):
    """(Linear, batch norm, ReLU, Dropout) per width, Linear; the last one starts at zero."""

    def __init__(self, inputs: int, hidden_dims: tuple[int, ...], dropout: float, output: Shifted) -> None:
        super().__init__()
        pairs = list(itertools.pairwise((inputs, *hidden_dims)))
        self.linears = nn.ModuleList(nn.Linear(before, after, bias=False) for before, after in pairs)
        self.norms = nn.ModuleList(BatchNorm(after) for _, after in pairs)
        self.dropout = nn.Dropout(dropout)
        self.head = zero_linear(hidden_dims[-1], output.size)
        self.output = output

    def forward(self, guarded: Tensor, measure: bool = False) -> Tensor:
        """Return outputs [rows] or [rows, outputs] for guarded features [rows, features].

        With ``measure`` return the moments of these rows instead, all layers side by side [2, widths].
        """
        hidden, measured = guarded, []
        for linear, norm in zip(self.linears, self._norms(), strict=True):
            hidden = linear(hidden)
            if self.training or measure:
                wide = hidden.float()
                moments = torch.stack((wide.mean(0), wide.var(0, correction=0)))
                measured.append(moments)
            else:
                moments = norm.moments
            hidden = torch.relu(norm(hidden, moments))
            hidden = hidden if measure else self.dropout(hidden)
        if measure:
            return torch.cat(measured, dim=1)
        outputs: Tensor = self.output(self.head(hidden))
        return outputs

    def calibrate(self, rows: Tensor) -> None:
        """Set every layer's moments to those of ``rows``."""
        widths = [norm.moments.shape[-1] for norm in self._norms()]
        measured = torch.split(self.forward(rows, measure=True), widths, dim=1)
        for norm, moments in zip(self._norms(), measured, strict=True):
            norm.moments.copy_(moments)

    def _norms(self) -> list[BatchNorm]:
        return cast("list[BatchNorm]", list(self.norms))


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer whose weights and bias are zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ReferenceMLP(nn.Module):
    """LayerNorm of the inputs, then (Linear, LayerNorm, ReLU, Dropout) per width, Linear to 1, sigmoid.

    It is kept as published, for comparison. Its first LayerNorm normalises across the features of one row and removes
    their magnitude. On scaled features it captures about 55 % of the attainable signal; the same network without that
    layer captures 96 %.
    """

    def __init__(self, inputs: int, hidden_dims: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.layers = reference_layers(inputs, hidden_dims, dropout, 1)

    def forward(self, guarded: Tensor) -> Tensor:
        """Return ranks [rows] in (0, 1) for guarded features [rows, features]."""
        return torch.sigmoid(self.layers(guarded)).squeeze(-1)


class ReferenceOutputs(nn.Module):
    """The same layers for targets outside the range of a sigmoid: logits of classes, and quantiles."""

    def __init__(self, inputs: int, hidden_dims: tuple[int, ...], dropout: float, output: Shifted) -> None:
        super().__init__()
        self.layers = reference_layers(inputs, hidden_dims, dropout, output.size)
        self.output = output

    def forward(self, guarded: Tensor) -> Tensor:
        """Return outputs [rows] or [rows, outputs] for guarded features [rows, features]."""
        outputs: Tensor = self.output(self.layers(guarded))
        return outputs


def reference_layers(inputs: int, hidden_dims: tuple[int, ...], dropout: float, outputs: int) -> nn.Sequential:
    """Return the published layers up to the raw outputs."""
    layers: list[nn.Module] = [nn.LayerNorm(inputs)]
    for before, after in itertools.pairwise((inputs, *hidden_dims)):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden_dims[-1], outputs))
