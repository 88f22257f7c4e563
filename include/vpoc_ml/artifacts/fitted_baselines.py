"""What the baselines learned from training rows, as it is stored with a fold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True)


class FittedRidge(_Section):
    """Ridge regression on guarded features: rank = intercept + coefficients · scaled features.

    ``median`` and ``scale`` are those of the robust scaling; ``clip`` bounds its output.
    """

    features: tuple[str, ...]
    median: tuple[float, ...]
    scale: tuple[float, ...]
    clip: float
    coefficients: tuple[float, ...]
    intercept: float


class FittedBaselines(_Section):
    """What the baselines learned from training rows; all values but ``majority`` are in rank units.

    Attributes:
        zero_rank: mid-rank of a zero return.
        mean_rank: mean rank of the training rows.
        majority: +1, 0 or -1: the more frequent direction.
        followed: mean rank after a fall, no change and a rise of the last bar.
        threshold: threshold of ``last_sign`` between down and up.
        ridge: the ridge regression.
        trees: LightGBM model in its text format; None where the model itself has trees, and without walk-forward folds.
    """

    zero_rank: float
    mean_rank: float
    majority: float
    followed: tuple[float, float, float]
    threshold: float
    ridge: FittedRidge
    trees: str | None = None
