"""Does a higher prediction mean a higher outcome? Deciles of the prediction against what followed."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpoc_ml.evaluation.forecasts import Floats, LabelledRows

BINS = 10


def calibration(prediction: Floats, rows: LabelledRows, bins: int = BINS) -> list[dict[str, Any]]:
    """Return rows, mean prediction, mean realised rank and up share of each decile of ``prediction`` (n,).

    ``up_share`` is the share of rises among the rows that moved; None where none did. Equal predictions
    stay in one bin, so a model with few distinct values has fewer bins.
    """
    edges = np.unique(np.quantile(prediction, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, prediction, side="right")
    return [_bin(place == number, prediction, rows) for number in np.unique(place)]


def _bin(members: np.ndarray[Any, np.dtype[np.bool_]], prediction: Floats, rows: LabelledRows) -> dict[str, Any]:
    up, moved = int((rows.ret[members] > 0).sum()), int((rows.ret[members] != 0).sum())
    return {
        "rows": int(members.sum()),
        "prediction": float(prediction[members].mean()),
        "realised": float(rows.y[members].mean()),
        "up_share": up / moved if moved else None,
    }
