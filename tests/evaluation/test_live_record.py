"""Live records: what sessions after the registration say about a preset."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.evaluation.forecasts import Forecast
from vpoc_ml.evaluation.live_record import LASTING, live_sessions, summarize_live
from vpoc_ml.evaluation.sequential import bounded, log_detector
from vpoc_ml.reports.sentences import FADED, live_sentence


def record(skill) -> pl.DataFrame:
    days = [date(2026, 1, 5) + timedelta(days=day) for day in range(len(skill))]
    ones = np.ones(len(skill))  # forecasts of mean 0 and deviation 1 in rank units: the product is the rank IC
    moments = {"forecast_mean": 0 * ones, "forecast_square": ones, "return_mean": 0 * ones}
    product = np.asarray(skill, dtype=float) / math.sqrt(12)
    return pl.DataFrame({"session": days, **moments, "product_mean": product}, schema_overrides={"session": pl.Date})


def summary(skill, track=0.04):
    return summarize_live("0123456789abcdef", record(skill), version=7, champion=True, track_rank_ic=track, horizon=1)


def test_scores_of_a_session_by_hand():
    generator = np.random.default_rng(2)
    session = [date(2026, 1, 5)] * 40 + [date(2026, 1, 6)] * 40
    frame = pl.DataFrame({"session": session, "ret": generator.normal(0, 1, 80), "y": generator.random(80)})
    score = Forecast("candidate", 0.5 + generator.normal(0, 0.1, 80), np.full(80, 0.5))
    found = live_sessions(frame, score, 0.1)
    later = slice(40, 80)
    assert found["rows"].to_list() == [40, 40]
    ret, y = frame["ret"].to_numpy()[later], frame["y"].to_numpy()[later]
    assert found["product_mean"][1] == pytest.approx(((score.rank[later] - 0.5) * (y - 0.5)).mean())
    assert found["forecast_square"][1] == pytest.approx(((score.rank[later] - 0.5) ** 2).mean())
    assert found["accuracy"][1] == pytest.approx((np.sign(score.rank[later] - 0.5) == np.sign(ret)).mean())

    def loss(error):
        return np.where(abs(error) <= 0.1, 0.5 * error**2, 0.1 * (abs(error) - 0.05)).mean()

    assert found["constant"][1] == pytest.approx(loss(0.5 - y) - loss(score.rank[later] - y))


def test_a_preset_without_live_sessions_says_so():
    found = summary([])
    assert (found.sessions, found.rank_ic, found.log_against) == (0, None, 0.0)
    assert live_sentence(found) == "Champion preset 01234567 (version 7) has no live session with a rank IC yet."


def test_thirty_nights_in_which_the_signal_dies():
    """200 markets: a rank IC of .04 with a standard error of .027 a session for 120 sessions, then none.

    Half of the faded signals are noticed within 30 nights, and the sentence says what to do. Without a change fewer
    than a tenth of the records of 150 sessions raise the alarm.
    """
    generator, noticed, false = np.random.default_rng(20261129), [], 0
    for _ in range(200):
        alive = generator.normal(0.04, 0.027, 150)
        dead = np.append(alive[:120], generator.normal(0.0, 0.027, 30))
        still, after = (log_detector(bounded(LASTING * 0.04 - skill)) for skill in (alive, dead))
        false += still.max() >= FADED
        nights = np.flatnonzero(after[120:] >= FADED) + 1
        noticed.append(nights[0] if len(nights) else math.inf)
    assert np.median(noticed) <= 30
    assert false <= 20
    faded = summary(np.append(dead, generator.normal(0.0, 0.027, 100)))
    assert faded.log_fading >= FADED
    assert "stop trading or roll back" in live_sentence(faded)


def test_a_signal_that_reverses_is_evidence_against_the_preset():
    found = summary(np.random.default_rng(3).normal(-0.03, 0.027, 60))
    assert found.log_against > math.log(20)
    assert found.log_for < 0
