"""Scores by session: against scipy by hand, and independent of later sessions."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.evaluation.forecasts import Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import huber, reduce
from vpoc_ml.evaluation.sequential import bounded, log_wealth
from vpoc_ml.evaluation.session_scores import compared, session_gains, session_ic, session_moments

SESSIONS, ROWS = 30, 50
DAYS = [date(2026, 1, 5) + timedelta(days=day) for day in range(SESSIONS)]


@pytest.fixture(scope="module")
def rows() -> LabelledRows:
    generator = np.random.default_rng(4)
    ret = np.round(generator.standard_t(4, SESSIONS * ROWS), 1)  # with ties and unchanged prices
    y = (ret.argsort().argsort() + 0.5) / len(ret)
    return LabelledRows(ret, y, np.repeat(np.arange(SESSIONS), ROWS), SESSIONS)


@pytest.fixture(scope="module")
def candidate(rows) -> Forecast:
    noise = np.random.default_rng(5).normal(0, 1, len(rows.ret))
    return Forecast("candidate", 0.5 + 0.02 * (0.3 * rows.ret + noise), 0.5)


def test_rank_ic_of_a_session_is_standardised_by_the_sessions_before(rows, candidate):
    session = pl.Series(DAYS).repeat_by(ROWS).explode()
    found = session_moments(session, candidate.rank, rows.y)
    assert found["session"].to_list() == DAYS
    scores = session_ic(found)
    assert math.isnan(scores[0])
    for number, first in ((1, 0), (7, 0), (29, 9)):
        part, before = rows.block == number, (rows.block >= first) & (rows.block < number)
        forecasts = (candidate.rank[part] - candidate.rank[before].mean()) / candidate.rank[before].std()
        assert scores[number] == pytest.approx((forecasts * math.sqrt(12) * (rows.y[part] - 0.5)).mean())
    earlier = rows.block < 20
    alone = session_moments(session.filter(pl.Series(earlier)), candidate.rank[earlier], rows.y[earlier])
    assert session_ic(alone).tolist()[1:] == scores[1:20].tolist()
    usual = np.corrcoef(candidate.rank, rows.y)[0, 1]
    assert np.nanmean(scores) == pytest.approx(usual, abs=0.01), "it estimates the rank IC"


def test_forecasts_that_do_not_vary_have_no_rank_ic():
    session = pl.Series(DAYS[:3]).repeat_by(4).explode()
    y = np.random.default_rng(1).random(12)
    assert np.isnan(session_ic(session_moments(session, np.full(12, 0.6), y))).all()
    assert len(session_ic(session_moments(session.head(0), y[:0], y[:0]))) == 0


@pytest.mark.parametrize("horizon", [1, 15, 60, None])
def test_a_return_to_the_open_is_no_skill_in_a_random_walk(horizon):
    """40 years of 250 sessions; the forecast falls with the price since the open. ``None``: to the next close.

    Spearman's correlation within each session finds skill here; the mean score must be 0, and the evidence may reach
    20 to 1 in 5 % of the years.
    """
    generator, years, sessions, minutes = np.random.default_rng(20261129), 40, 251, 195
    reached, means = 0, []
    for _ in range(years):
        steps = generator.standard_t(5, (sessions, minutes + 60)) / 100
        price = np.cumsum(steps, axis=1)
        now = price[:-1, :minutes]
        if horizon is None:  # the close of the next session
            returns = (price[:-1, -1] + price[1:, -1])[:, None] - now
        else:
            returns = price[:-1, horizon : minutes + horizon] - now
        y = 0.5 + 0.5 * np.tanh(returns / (2 * returns.std()))
        day = pl.Series(np.repeat(np.arange(sessions - 1), minutes))
        scores = session_ic(session_moments(day, 0.5 - 0.1 * now.ravel(), y.ravel()))
        means.append(np.nanmean(scores))
        reached += log_wealth(bounded(scores, 2 if horizon is None else 1)).max() >= math.log(20)
    assert abs(np.mean(means)) < 3 * np.std(means) / math.sqrt(years)
    assert reached <= 6, "5 % of 40 are 2; more than 6 have a probability below 0.5 %"


def test_gains_of_a_session_by_hand(rows, candidate):
    constant = Forecast("constant", np.full(len(rows.y), 0.5), 0.5, ranked=False)
    up = Forecast("majority", np.ones(len(rows.y)), 0.5, direction_only=True)
    gains = session_gains({each.name: reduce(each, rows, 0.1) for each in (candidate, constant, up)})
    part = rows.block == 3
    losses = [huber(each.rank[part] - rows.y[part], 0.1).mean() for each in (constant, candidate)]
    assert gains["constant"][3] == pytest.approx(losses[0] - losses[1])
    moved = part & (rows.ret != 0)
    right = (np.sign(candidate.rank - 0.5) == np.sign(rows.ret))[moved].mean()
    assert gains["majority"][3] == pytest.approx(right - (rows.ret > 0)[moved].mean())


def test_comparison_names_measure_sessions_and_evidence():
    scores = np.random.default_rng(6).normal(0.5, 1.0, 100)
    table = pl.DataFrame(
        {"session": range(100), "skill": scores, "champion": np.append(np.full(90, np.nan), scores[:10])}
    )
    found = compared(table, 1)
    assert (found["skill"].measure, found["champion"].measure) == ("rank IC", "direction accuracy")
    assert (found["skill"].sessions, found["champion"].sessions) == (100, 10)
    assert found["skill"].log_evidence > math.log(40)
    assert found["skill"].low > 0
    assert found["champion"].log_evidence < math.log(4)
    assert found["champion"].low < 0 < found["champion"].high


def test_scores_that_never_differ_are_no_evidence():
    found = compared(pl.DataFrame({"session": range(40), "ridge": np.zeros(40)}), 1)["ridge"]
    assert (found.mean, found.log_evidence, found.statistic) == (0.0, 0.0, None)
