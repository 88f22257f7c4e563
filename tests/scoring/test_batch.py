"""Batch scoring: only what is due, only what is whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.errors import ArtifactError
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.scoring import score_bars

KEY = ModelKey("ES", "15m", "rank_gauss")
START = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Linear:
    """Predicts the sum of its features."""

    features: tuple[str, ...] = ("b", "a")
    zero_rank: float = 0.5

    def predict(self, features: np.ndarray) -> np.ndarray:
        assert np.isfinite(features).all()
        return features.sum(axis=1)


def bars(a, b) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": pl.Series([START + timedelta(minutes=m) for m in range(len(a))], dtype=pl.Datetime("us", "UTC")),
            "contract": "ESH25",
            "session": date(2025, 1, 6),
            "a": pl.Series(a, dtype=pl.Float32),
            "unused": pl.Series([float("nan")] * len(a), dtype=pl.Float32),
            "b": pl.Series(b, dtype=pl.Float32),
        }
    )


FEATURES = bars([0.25, 0.25, float("nan"), 0.5, 0.5], [0.5, 0.0, 0.0, 0.0, float("inf")])


def test_predictions_are_stamped_and_rows_with_holes_are_counted_not_guessed():
    scores = score_bars(Linear(), FEATURES, key=KEY, model_version=3)
    assert (scores.rows, scores.skipped) == (5, 2)
    assert scores.frame.to_dicts() == [
        {
            "ts": START + timedelta(minutes=minute),
            "contract": "ESH25",
            "session": date(2025, 1, 6),
            "known_at": START + timedelta(minutes=minute + 1),
            "prediction": prediction,
            "direction": direction,
            "model_version": 3,
            "instrument": "ES",
            "horizon": "15m",
            "target": "rank_gauss",
        }
        for minute, prediction, direction in ((0, 0.75, 1), (1, 0.25, -1), (3, 0.5, 0))
    ]


def test_only_bars_after_the_last_scored_one_are_due():
    scores = score_bars(Linear(), FEATURES, since=START, key=KEY, model_version=3)
    assert scores.rows == 4
    assert scores.frame["ts"].min() == START + timedelta(minutes=1)


def test_scoring_in_two_parts_equals_scoring_at_once():
    at_once = score_bars(Linear(), FEATURES, key=KEY, model_version=3).frame
    first = score_bars(Linear(), FEATURES[:2], key=KEY, model_version=3).frame
    then = score_bars(Linear(), FEATURES, since=first["ts"].max(), key=KEY, model_version=3).frame
    assert pl.concat([first, then]).equals(at_once)


def test_nothing_due_gives_an_empty_frame_of_the_same_schema():
    full = score_bars(Linear(), FEATURES, key=KEY, model_version=3).frame
    empty = score_bars(Linear(), FEATURES, since=START + timedelta(hours=1), key=KEY, model_version=3)
    assert (empty.rows, empty.frame.height) == (0, 0)
    assert empty.frame.schema == full.schema


def test_null_feature_counts_as_a_hole():
    holed = FEATURES.with_columns(a=pl.lit(None, dtype=pl.Float32))
    assert score_bars(Linear(), holed, key=KEY, model_version=3).skipped == 5


def test_absent_column_is_named():
    with pytest.raises(ArtifactError, match="columns b"):
        score_bars(Linear(), FEATURES.drop("b"), key=KEY, model_version=3)
