"""Scores by session: against scipy by hand, and independent of later sessions."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from vpoc_ml.evaluation.forecasts import Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import huber, reduce
from vpoc_ml.evaluation.session_scores import compared, daily_rank_ic, session_gains

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


def test_rank_ic_of_a_session_is_spearmans(rows, candidate):
    session = pl.Series(DAYS).repeat_by(ROWS).explode()
    found = daily_rank_ic(session, candidate.rank, rows.ret)
    assert found["session"].to_list() == DAYS
    for number in (0, 7, 29):
        part = rows.block == number
        assert found["skill"][number] == pytest.approx(spearmanr(candidate.rank[part], rows.ret[part]).statistic)
    earlier = rows.block < 20
    alone = daily_rank_ic(session.filter(pl.Series(earlier)), candidate.rank[earlier], rows.ret[earlier])
    assert alone["skill"].to_list() == found["skill"][:20].to_list()


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
