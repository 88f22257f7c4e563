"""When a distance is unusual, and when it is an error.

A distance warns above a high quantile of the blocks of the training rows, and is an error above a multiple of the
largest of them. Both limits have a floor, because blocks of a quiet history are nearly equal: a difference that is
statistically certain may be too small to matter. With few blocks their largest distance says little, so nothing is an
error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpoc_ml.artifacts.monitoring_reference import ColumnReference
from vpoc_ml.config import MonitoringConfig
from vpoc_ml.monitoring.distances import KS, MEAN, MISSING, PSI, SCALE, UP

MIN_BLOCKS = 30
WARNING_FLOOR = 0.4
"""Floor of a warning as a share of the floor of an error: 0.1 and 0.25 of PSI, as Siddiqi (2006) has them."""


@dataclass(frozen=True)
class DistanceLimits:
    """A distance above ``warning`` warns, one above ``error`` is an error (None: never); ``largest`` of a block."""

    warning: float
    error: float | None
    largest: float


def floors(config: MonitoringConfig) -> dict[str, float]:
    """Return the smallest distance that is an error, by name of the distance."""
    return {
        PSI: config.psi_floor,
        KS: config.ks_floor,
        MISSING: config.missing_floor,
        MEAN: config.label_mean_floor,
        SCALE: config.label_scale_floor,
        UP: config.label_up_floor,
    }


def distance_limits(reference: ColumnReference, distance: str, config: MonitoringConfig) -> DistanceLimits:
    """Return the limits of one distance of one column."""
    blocks, floor = reference.blocks.get(distance, ()), floors(config)[distance]
    usual = float(np.quantile(blocks, config.warn_quantile)) if blocks else 0.0
    largest = max(blocks, default=0.0)
    error = max(config.error_factor * largest, floor) if len(blocks) >= MIN_BLOCKS else None
    return DistanceLimits(max(usual, WARNING_FLOOR * floor), error, largest)
