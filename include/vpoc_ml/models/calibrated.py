"""Networks that measure something of fixed training rows whenever they leave training mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from vpoc_ml.models.encoding import Encoded

REFERENCE_ROWS = 8_192


class Calibrated(nn.Module, ABC):
    """A network with buffers that are a function of its weights and of ``reference``, rows of its inputs.

    They are measured anew by every ``eval()`` while there is a reference. So the buffers always belong to
    the weights in use, averaged or restored, and need no place in a checkpoint. A stored model has no
    reference: it keeps the buffers of its file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reference: Tensor | None = None

    def train(self, mode: bool = True) -> Self:
        """Switch mode; on leaving training, measure."""
        super().train(mode)
        if not mode and self.reference is not None:
            with torch.no_grad():
                self.calibrate(self.reference)
        return self

    @abstractmethod
    def calibrate(self, rows: Tensor) -> None:
        """Set the buffers to what ``rows`` of inputs give."""


def set_reference(body: nn.Module, guarded: Tensor | None) -> None:
    """Give a network behind the guard the first of its training rows [rows, features] as reference; None takes it away.

    Networks that measure nothing are left alone.
    """
    rows = None if guarded is None else guarded[:REFERENCE_ROWS]
    if isinstance(body, Encoded):
        set_reference(body.net, None if rows is None else body.encoding(rows))
    elif isinstance(body, Calibrated):
        body.reference = rows
