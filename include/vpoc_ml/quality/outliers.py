"""The question about outliers, and of which features it makes sense."""

from __future__ import annotations

from math import isfinite
from typing import Protocol

from vpoc_ml.config import QualityConfig
from vpoc_ml.quality.checks import Check, Limit


class Bounded(Protocol):
    """A feature with the bounds of what is possible and of what is usual."""

    @property
    def hard(self) -> tuple[float, float]: ...
    @property
    def soft(self) -> tuple[float, float]: ...


def outlier_checks(name: str, known: Bounded | None, config: QualityConfig) -> list[Check]:
    """Return the warning about values far from the median.

    None for a feature whose largest possible value is a usual one: of shares and clipped values MAD tells nothing.
    """
    if known is not None and all(map(isfinite, known.hard)) and known.soft[1] == known.hard[1]:
        return []
    return [
        Check("beyond", name, "values within 5 MAD of the median", None, warn_if=Limit(share=config.outlier_warn)),
    ]
