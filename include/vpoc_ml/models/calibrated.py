"""Networks that recompute buffers from fixed training rows whenever they leave training mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from vpoc_ml.models.encoding import Encoded

REFERENCE_ROWS = 8_192


class Calibrated(nn.Module, ABC):
    """A network with buffers that are a function of its weights and of ``reference``, rows of its inputs.

    Every ``eval()`` with a reference recomputes them. The buffers therefore always belong to the weights in use,
    averaged or restored, and are not part of a checkpoint. A stored model has no reference and keeps the buffers of its
    file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reference: Tensor | None = None

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; recompute the buffers when training ends."""
        super().train(mode)
        if not mode and self.reference is not None:
            with torch.no_grad():
                self.calibrate(self.reference)
        return self

    @abstractmethod
    def calibrate(self, rows: Tensor) -> None:
        """Compute the buffers from ``rows`` of inputs."""


def set_reference(body: nn.Module, guarded: Tensor | None) -> None:
    """Set the first training rows [rows, features], after the guard, as reference of a network; None removes it.

    Networks without such buffers are not changed.
    """
    rows = None if guarded is None else guarded[:REFERENCE_ROWS]
    if isinstance(body, Encoded):
        set_reference(body.net, None if rows is None else body.encoding(rows))
    elif isinstance(body, Calibrated):
        body.reference = rows
