"""Distribution of one feature: moments, quantiles, histogram and tails."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpoc_ml.evaluation.forecasts import Floats

TAIL_DISTANCES = (3.0, 5.0, 10.0, 20.0)
BINS = 40
_QUANTILES = {"p0.1": 0.001, "p1": 0.01, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99, "p99.9": 0.999}


def describe(values: Floats) -> dict[str, Any]:
    """Return moments, quantiles and a histogram of ``values`` (n,); all None where nothing is finite.

    Skewness and excess kurtosis are those of the sample (biased), 0 for a constant. The histogram spans p0.1 to p99.9.
    Values beyond count in its outer bins, so a single outlier does not flatten it.
    """
    finite = values[np.isfinite(values)]
    counted: dict[str, Any] = {"rows": int(values.size), "nonfinite": int(values.size - finite.size)}
    if finite.size == 0:
        return counted | dict.fromkeys(("mean", "sd", "skewness", "kurtosis", "min", "max", *_QUANTILES, "histogram"))
    quantiles = np.quantile(finite, list(_QUANTILES.values()))
    mean, sd = float(finite.mean()), float(finite.std())
    standard = (finite - mean) / sd if sd > 0 else np.zeros_like(finite)
    square = standard * standard
    return counted | {
        "mean": mean,
        "sd": sd,
        "skewness": float((square * standard).mean()),
        "kurtosis": float((square * square).mean() - 3.0) if sd > 0 else 0.0,
        "min": float(finite.min()),
        "max": float(finite.max()),
        **dict(zip(_QUANTILES, quantiles.tolist(), strict=True)),
        "histogram": histogram(finite, float(quantiles[0]), float(quantiles[-1])),
    }


def histogram(values: Floats, low: float, high: float, bins: int = BINS) -> dict[str, Any]:
    """Count finite ``values`` in equal bins from ``low`` to ``high``; those outside fall into the outer bins."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    counts, _ = np.histogram(np.clip(values, low, high), bins, (low, high))
    return {"low": low, "high": high, "counts": counts.tolist()}


def extremes(values: Floats, median: float, scale: float) -> dict[str, float]:
    """Return the share of the finite ``values`` farther than 3, 5, 10 and 20 scales from the median."""
    distance = np.abs(values[np.isfinite(values)] - median) / scale
    return {f"{limit:g}": float((distance > limit).mean()) if distance.size else 0.0 for limit in TAIL_DISTANCES}
