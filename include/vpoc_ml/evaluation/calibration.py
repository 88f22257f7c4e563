"""Calibration: the realised rank and the share of rises by decile of the prediction."""

from __future__ import annotations

import numpy as np

from vpoc_ml.artifacts.metrics import CalibrationBin
from vpoc_ml.evaluation.forecasts import Floats, LabelledRows

BINS = 10


def calibration(prediction: Floats, rows: LabelledRows, bins: int = BINS) -> tuple[CalibrationBin, ...]:
    """Return rows, mean prediction, mean realised rank and share of rises of each decile of ``prediction`` (n,).

    ``up_share`` is the share of rises among the rows that moved; None if none did. Equal predictions are in one bin, so
    a model with few distinct predictions has fewer bins.
    """
    edges = np.unique(np.quantile(prediction, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, prediction, side="right")
    found = []
    for number in np.unique(bin_of):
        members = bin_of == number
        up, moved = int((rows.ret[members] > 0).sum()), int((rows.ret[members] != 0).sum())
        found.append(
            CalibrationBin(
                rows=int(members.sum()),
                prediction=float(prediction[members].mean()),
                realised=float(rows.y[members].mean()),
                up_share=up / moved if moved else None,
            )
        )
    return tuple(found)
