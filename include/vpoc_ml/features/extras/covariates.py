"""Level and change of each further index that ``ingest.covariates`` names."""

from __future__ import annotations

import numpy as np

from vpoc_ml.features.history import Floats
from vpoc_ml.features.inputs import Inputs
from vpoc_ml.features.series import dates_before, when_published


def compute(x: Inputs) -> dict[str, Floats]:
    """Return the features that ``registry.covariate_features`` lists, by name."""
    found = {}
    for name, values in x.covariates.items():
        known = values["available_at"].to_physical().to_numpy()
        level = np.append(np.nan, values["close"].to_numpy())
        change = level - dates_before(level[1:], values["date"])
        found[f"{name}_lag1"] = when_published(x.ts, known, level)
        found[f"{name}_chg_5d"] = when_published(x.ts, known, change)
    return found
