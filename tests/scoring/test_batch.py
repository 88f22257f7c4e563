"""Batch scoring: only what is due, only what is whole, no direction far from the training rows, intervals by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.errors import ArtifactError
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.scoring.batch import BLOCK_ROWS, ScoringRules, in_blocks, score_bars

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

    def distances(self, features: np.ndarray) -> np.ndarray:
        return np.square(features).mean(axis=1)


RULES = ScoringRules(limit=None, offsets=None, target_quantiles=None, tick_size=0.25)


def bars(a, b) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": pl.Series([START + timedelta(minutes=m) for m in range(len(a))], dtype=pl.Datetime("us", "UTC")),
            "contract": "ESH25",
            "session": date(2025, 1, 6),
            "close": 5000.0,
            "a": pl.Series(a, dtype=pl.Float32),
            "unused": pl.Series([float("nan")] * len(a), dtype=pl.Float32),
            "b": pl.Series(b, dtype=pl.Float32),
        }
    )


FEATURES = bars([0.25, 0.25, float("nan"), 0.5, 0.5], [0.5, 0.0, 0.0, 0.0, float("inf")])


def test_predictions_are_stamped_and_rows_with_holes_are_counted_not_guessed():
    scores = score_bars(Linear(), FEATURES, RULES, key=KEY, model_version=3)
    assert (scores.rows, scores.skipped) == (5, 2)
    assert scores.frame.to_dicts() == [
        {
            "ts": START + timedelta(minutes=minute),
            "contract": "ESH25",
            "session": date(2025, 1, 6),
            "known_at": START + timedelta(minutes=minute + 1),
            "prediction": prediction,
            **dict.fromkeys(("low", "low_ticks", "high", "high_ticks")),
            "distance": distance,
            "abstained": False,
            "direction": direction,
            "model_version": 3,
            "instrument": "ES",
            "horizon": "15m",
            "target": "rank_gauss",
        }
        for minute, prediction, distance, direction in (
            (0, 0.75, (0.25 + 0.0625) / 2, 1),
            (1, 0.25, 0.0625 / 2, -1),
            (3, 0.5, 0.25 / 2, 0),
        )
    ]


def test_only_bars_after_the_last_scored_one_are_due():
    scores = score_bars(Linear(), FEATURES, RULES, since=START, key=KEY, model_version=3)
    assert scores.rows == 4
    assert scores.frame["ts"].min() == START + timedelta(minutes=1)


def test_scoring_in_two_parts_equals_scoring_at_once():
    at_once = score_bars(Linear(), FEATURES, RULES, key=KEY, model_version=3).frame
    first = score_bars(Linear(), FEATURES[:2], RULES, key=KEY, model_version=3).frame
    then = score_bars(Linear(), FEATURES, RULES, since=first["ts"].max(), key=KEY, model_version=3).frame
    assert pl.concat([first, then]).equals(at_once)


def test_nothing_due_gives_an_empty_frame_of_the_same_schema():
    full = score_bars(Linear(), FEATURES, RULES, key=KEY, model_version=3).frame
    empty = score_bars(Linear(), FEATURES, RULES, since=START + timedelta(hours=1), key=KEY, model_version=3)
    assert (empty.rows, empty.frame.height) == (0, 0)
    assert empty.frame.schema == full.schema


def test_null_feature_counts_as_a_hole():
    holed = FEATURES.with_columns(a=pl.lit(None, dtype=pl.Float32))
    assert score_bars(Linear(), holed, RULES, key=KEY, model_version=3).skipped == 5


def test_absent_column_is_named():
    with pytest.raises(ArtifactError, match="columns b"):
        score_bars(Linear(), FEATURES.drop("b"), RULES, key=KEY, model_version=3)


def test_a_row_beyond_the_limit_keeps_its_prediction_and_has_no_direction():
    rules = ScoringRules(limit=0.125, offsets=None, target_quantiles=None, tick_size=0.25)
    frame = score_bars(Linear(), FEATURES, rules, key=KEY, model_version=3).frame
    assert frame["abstained"].to_list() == [True, False, False]
    assert frame["direction"].to_list() == [0, -1, 0]
    assert frame["prediction"].to_list() == [0.75, 0.25, 0.5]


def test_interval_in_ranks_and_in_ticks_by_hand():
    quantiles = (-0.002, 0.0, 0.001)  # of the training returns at ranks 0, 0.5 and 1
    rules = ScoringRules(limit=None, offsets=(-0.25, 0.5), target_quantiles=quantiles, tick_size=0.25)
    frame = score_bars(Linear(), FEATURES, rules, key=KEY, model_version=3).frame
    assert frame["low"].to_list() == [0.5, 0.0, 0.25]
    assert frame["high"].to_list() == [1.0, 0.75, 1.0]
    low, high = ([4 * 5000 * np.expm1(r) for r in returns] for returns in ((0, -0.002, -0.001), (0.001, 0.0005, 0.001)))
    assert frame["low_ticks"].to_list() == pytest.approx(low)
    assert frame["high_ticks"].to_list() == pytest.approx(high)
    below_zero = FEATURES.with_columns(close=-10.0)
    assert score_bars(Linear(), below_zero, rules, key=KEY, model_version=3).frame["low_ticks"].null_count() == 3


def test_every_call_of_the_model_has_the_same_shape():
    shapes = []

    def spy(block):
        shapes.append(block.shape)
        return block[:, 0]

    raw = np.arange(2.0 * (2 * BLOCK_ROWS + 1)).reshape(-1, 2)
    assert np.array_equal(in_blocks(spy, raw), raw[:, 0])
    assert shapes == [(BLOCK_ROWS, 2)] * 3
    assert in_blocks(spy, raw[:0]).size == 0
