"""Groups of features. In an ensemble each group has its own networks."""

from __future__ import annotations

from collections.abc import Sequence

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.registry import ALL_FEATURES

EVERY = "every group"
# Profile levels depend on volume, VIX is a volatility, and the time of day matters for all groups
GROUP_OF = {
    "price": "price",
    "volume": "volume",
    "levels": "volume",
    "volatility": "volatility",
    "vix": "volatility",
    "calendar": EVERY,
    "garch": "volatility",
    "har": "volatility",
    "hurst": "volatility",
    "wavelet": "volatility",
    "cointegration": "price",
    "fracdiff": "price",
    "alpha158": "price",
}
ALL = "all"


def group_columns(config: ModelConfig, statistics: NetworkInputs) -> dict[str, list[int]]:
    """Return the feature columns of each group of ``config.groups``; without groups, one group of all columns.

    A stored model holds its columns (``groups``), so it does not change when a family is assigned to another group.

    Raises:
        InvalidValueError: a group without features, or a feature of no known family.
    """
    if not config.groups:
        return {ALL: list(range(len(statistics.features)))}
    if statistics.groups is not None:
        return statistics.groups
    return {name: _columns(name, statistics.features) for name in config.groups}


def _columns(group: str, features: Sequence[str]) -> list[int]:
    if group == ALL:
        return list(range(len(features)))
    unknown = [name for name in features if name not in ALL_FEATURES]
    if unknown:
        expected = f"empty with features outside the registry, such as {unknown[0]}: their group is not known"
        raise InvalidValueError("model.groups", group, expected)
    groups = [GROUP_OF[ALL_FEATURES[name].family] for name in features]
    if group not in groups:
        raise InvalidValueError("model.groups", group, f"groups of features.names: {', '.join(sorted(set(groups)))}")
    return [column for column, of in enumerate(groups) if of in (group, EVERY)]
