"""The kinds of target. Each can be fitted on training returns, applied, scored and stored as JSON.

| kind | trained on | a zero return | score |
|---|---|---|---|
| rank | mid-rank among training returns | middle of the zeros' ranks | the output |
| rank_gauss | normal quantile of that rank | as above | the output |
| return | log return | zero | the output |
| vol_scaled | log return over the volatility known at the bar | zero | the output |
| binary | 0 or 1 | 0.5 | mean rank at that probability of a rise |
| multiclass | number of the class between training quantiles | the class around zero | mean rank of the classes |
| quantiles | log return, once for each level | zero | mean of the quantiles |

Targets and outputs are in rank units, except those of the classes. Every score is in rank units.
"""

from __future__ import annotations

from vpoc_ml.artifacts.feature_statistics import FittedTarget
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.targets.base import Floats, Target
from vpoc_ml.dataset.targets.classes import BinaryTarget, MulticlassTarget, QuantilesTarget
from vpoc_ml.dataset.targets.scaled import RankGaussTarget, RankTarget, ReturnTarget, VolScaledTarget
from vpoc_ml.errors import InvalidValueError

KINDS: dict[str, type[Target]] = {
    kind.kind: kind
    for kind in (
        RankTarget,
        RankGaussTarget,
        ReturnTarget,
        VolScaledTarget,
        BinaryTarget,
        MulticlassTarget,
        QuantilesTarget,
    )
}


def fit_target(
    kind: str, returns: Floats, volatility: Floats | None = None, config: DatasetConfig | None = None
) -> Target:
    """Fit a target of ``kind`` on the log returns [n] of the training rows.

    Args:
        kind: a key of ``KINDS``.
        returns: float64; rows that are not finite are left out.
        volatility: standard deviation of each return as known before it; for kinds that need one.
        config: options of the kinds; None for the defaults.

    Raises:
        InvalidValueError: no such kind, or an option that cannot be used.
        InputError: no return is finite.
    """
    return _class(kind).fit(returns, volatility, config or DatasetConfig())


def target_from_json(stored: FittedTarget) -> Target:
    """Return the target that ``Target.to_json`` stored.

    Raises:
        InvalidValueError: it names no kind of this version.
    """
    return _class(str(stored.get("kind"))).from_json(stored)


def _class(kind: str) -> type[Target]:
    if kind not in KINDS:
        raise InvalidValueError("dataset.target", kind, f"one of {', '.join(KINDS)}")
    return KINDS[kind]


__all__ = ["KINDS", "RankTarget", "Target", "fit_target", "target_from_json"]
