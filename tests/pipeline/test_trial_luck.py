"""How much of a search's best trial is luck."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.pipeline.study_stages import trial_luck


def returns(gross: np.ndarray) -> pl.DataFrame:
    """Rows of ``returns.parquet`` for gross results [sessions, trials]."""
    sessions, trials = gross.shape
    days = [date(2026, 1, 5) + timedelta(days=day) for day in range(sessions)]
    return pl.DataFrame(
        {
            "trial": pl.Series(np.repeat(np.arange(trials), sessions), dtype=pl.Int32),
            "session": days * trials,
            "gross": gross.T.ravel(),
        }
    )


def test_best_of_many_trials_without_skill_is_luck():
    overfitting, deflated = trial_luck(returns(np.random.default_rng(4).normal(0, 100, (60, 12))))
    assert overfitting > 0.2
    assert deflated < 0.8


def test_a_trial_with_an_edge_is_not_luck():
    gross = np.random.default_rng(4).normal(0, 100, (60, 12))
    gross[:, 5] += 80
    overfitting, deflated = trial_luck(returns(gross))
    assert overfitting < 0.05
    assert deflated > 0.9


@pytest.mark.parametrize("shape", [(60, 1), (19, 5), (0, 0)])
def test_few_trials_or_sessions_say_nothing(shape):
    assert trial_luck(returns(np.ones(shape))) == (None, None)
