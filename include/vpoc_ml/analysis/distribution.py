"""Distribution of one feature, and of each kind of target.

Of a feature: moments, quantiles, histogram, tails, drift by contract, effect of each scaler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.analysis.train_validation_view import SPLITS, TrainValidationView
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.labels import known_volatility
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.scalers import KINDS, apply_column, fit_scaler
from vpoc_ml.dataset.targets import KINDS as TARGET_KINDS
from vpoc_ml.dataset.targets import fit_target
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.evaluation.forecasts import Floats, Ints

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


DRIFT_BINS = 10
_PSEUDO = 0.5


def drift(values: Floats, contract: Ints, codes: Sequence[str], scale: float) -> dict[str, dict[str, Any]]:
    """Compare each contract's values with those of all other contracts.

    Args:
        values: one feature, (n,), raw; non-finite values are left out.
        contract: index in ``codes`` of the contract of each row, (n,).
        codes: codes of the contracts.
        scale: the feature's robust scale (IQR of the training rows in units of a normal's sigma).

    Returns:
        By code: ``rows``; ``psi``, the population stability index over the deciles of all rows; ``shift``, the
        difference of the means in scales. Both are None if the contract or all others have no rows.
    """
    finite = np.isfinite(values)
    values, contract = values[finite], contract[finite]
    edges = np.unique(np.quantile(values, np.arange(1, DRIFT_BINS) / DRIFT_BINS)) if values.size else np.zeros(0)
    bin_of = np.searchsorted(edges, values, side="left")
    bins = edges.size + 1
    cells = np.bincount(contract * bins + bin_of, minlength=bins * len(codes)).astype(np.int64)
    counts = cells.reshape(len(codes), bins)
    sums = np.bincount(contract, values, len(codes)).astype(np.float64)
    compared: dict[str, dict[str, Any]] = {}
    for at, code in enumerate(codes):
        own, others = counts[at], counts.sum(axis=0) - counts[at]
        rows, left = int(own.sum()), int(others.sum())
        compared[code] = {"rows": rows, "psi": None, "shift": None}
        if rows and left:
            shift = float(sums[at] / rows - (sums.sum() - sums[at]) / left) / scale
            compared[code] |= {"psi": psi(own, others), "shift": shift}
    return compared


def psi(own: Ints, others: Ints) -> float:
    """Return the population stability index of two histograms over the same bins: sum (p - q) ln(p / q).

    It is symmetric and 0 for equal shares; the credit-scoring convention (Siddiqi 2006) calls less than 0.1
    stable and more than 0.25 a change. Half a row is added to each bin, so that empty bins have a finite index.
    """
    p, q = ((counts + _PSEUDO) / (counts + _PSEUDO).sum() for counts in (own, others))
    return float(((p - q) * np.log(p / q)).sum())


ROWS = 6_000
FAR = 5.0


def scaler_effects(view: TrainValidationView, config: DatasetConfig, rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """Fit every kind of scaler on at most ``rows`` evenly spaced training rows of each feature; return its effect.

    By kind, with ``none`` for the raw values: ``formula``, ``chosen`` (this run uses the kind), and ``features``. Each
    feature has ``skewness`` and excess ``kurtosis`` of the scaled values, and ``far``, the share of values beyond 5 of
    their robust scales, which does not depend on the unit of a scaler.
    """
    train = np.flatnonzero(view.mask("train"))
    chosen = train[:: -(-train.size // rows)]
    kinds = ("none", *KINDS)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for name in view.features:
        column = view.column(name)[chosen]
        for kind in kinds:
            scaled = column if kind == "none" else apply_column(fit_scaler(kind, [column]).columns[0], column)
            found[kind][name] = _shape(scaled)
    return {
        kind: {
            "formula": KINDS[kind].formula if kind in KINDS else "unchanged",
            "chosen": kind == config.scaler,
            "features": features,
        }
        for kind, features in found.items()
    }


def _shape(values: Floats) -> dict[str, float]:
    """Return skewness, excess kurtosis and far share of the finite values; all 0 for a constant or without any."""
    finite = values[np.isfinite(values)]
    sd = float(finite.std()) if finite.size else 0.0
    if not sd > 0:
        return {"skewness": 0.0, "kurtosis": 0.0, "far": 0.0}
    standard = (finite - finite.mean()) / sd
    square, known = standard * standard, fit_robust_scaling(finite)
    return {
        "skewness": float((square * standard).mean()),
        "kurtosis": float((square * square).mean() - 3.0),
        "far": float((np.abs(finite - known.median) > FAR * known.scale).mean()),
    }


def target_distributions(view: TrainValidationView, config: DatasetConfig) -> dict[str, dict[str, Any]]:
    """Describe every kind of target on the labelled rows of both splits, by kind.

    The training set holds the target of this run. The other kinds are fitted here on the training rows. Their
    ``vol_scaled`` computes the volatility from the rows of the view, because a training set lacks the rows between.

    Each kind has ``predicts``, ``loss``, ``outputs``, ``chosen`` (this run trains on it), the number of ``distinct``
    values, ``commonest`` (share of training rows with the most frequent value), and the distribution on ``train`` and
    ``validation``. A kind whose options do not suit these returns has only ``predicts``, ``chosen`` and ``refused``,
    the reason.
    """
    # the volatility of each row's label that is known at the row, from the earlier returns of its contract
    known = pl.col("last_ret").map_batches(
        lambda column: known_volatility(column, config.horizon.minutes, config.target.bars), return_dtype=pl.Float64
    )
    volatility = view.keys.select(known.over("contract")).to_series().to_numpy()
    returns, train = view.keys["ret"].to_numpy(), view.mask("train", labelled=True)
    described: dict[str, dict[str, Any]] = {}
    for kind in TARGET_KINDS:
        chosen = kind == config.target.kind
        described[kind] = {"predicts": TARGET_KINDS[kind].predicts, "chosen": chosen}
        try:
            target = fit_target(kind, returns[train], volatility[train], config)
        except InvalidValueError as error:
            described[kind]["refused"] = str(error)
            continue
        made = view.column("y") if chosen else target.apply(returns, volatility)
        values = {split: made[view.mask(split, labelled=True)] for split in SPLITS}
        _, counts = np.unique(values["train"], return_counts=True)
        described[kind] |= {
            "loss": target.loss,
            "outputs": target.outputs,
            "distinct": int(counts.size),
            "commonest": float(counts.max() / counts.sum()),
            **{split: describe(found) for split, found in values.items()},
        }
    return described
