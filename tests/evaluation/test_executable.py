"""Skill against the executable return, the share that is bid-ask bounce, and skill by delay of the entry."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from vpoc_ml.evaluation.bootstrap import draw
from vpoc_ml.evaluation.executable import DELAYS, entry_delays, executable_returns, label_skill
from vpoc_ml.evaluation.forecasts import Forecast

SESSIONS, MINUTES = 20, 200


@pytest.fixture(scope="module")
def bouncing():
    """A martingale whose closes are at the bid or the ask: one-minute labels of rows with ts, prices and returns."""
    rng = np.random.default_rng(3)
    frames = []
    for day in range(SESSIONS):
        middle = 5000 + np.cumsum(rng.normal(0, 0.3, MINUTES + 1))
        close = middle + rng.choice([-0.25, 0.25], MINUTES + 1)
        opened = np.concatenate([middle[:1], middle[:-1]]) + rng.choice([-0.25, 0.25], MINUTES + 1)
        begin = datetime(2025, 1, 6, 15, tzinfo=UTC) + timedelta(days=day)
        frames.append(
            pl.DataFrame(
                {
                    "ts": [begin + timedelta(minutes=minute) for minute in range(MINUTES)],
                    "contract": "ESH25",
                    "session": date(2025, 1, 6) + timedelta(days=day),
                    "entry_price": opened[1:],
                    "exit_price": close[1:],
                    "ret_close": np.log(close[1:] / close[:-1]),
                    "side": close[:-1] - middle[:-1],
                }
            )
        )
    frame = pl.concat(frames)
    return frame.with_columns(ret=executable_returns(frame), y=pl.lit(0.5))


def test_bounce_is_skill_against_closes_and_none_against_the_next_open(bouncing):
    resamples = draw(SESSIONS, samples=200, confidence=0.95, seed=1)
    reversal = Forecast("candidate", -bouncing["side"].to_numpy(), 0.0)
    constant = Forecast("constant", np.full(bouncing.height, 0.5), 0.5)
    sign = Forecast("majority", np.ones(bouncing.height), 0.0, direction_only=True)
    found = label_skill(bouncing, [reversal, constant, sign], resamples)
    assert set(found) == {"candidate", "constant"}
    assert found["candidate"].close.low > 0.3
    assert found["candidate"].executable.low < 0 < found["candidate"].executable.high
    assert found["candidate"].bounce_share == pytest.approx(1, abs=0.1)
    assert found["constant"].close is None
    assert found["constant"].bounce_share is None


def test_delay_zero_is_the_rank_correlation_with_the_own_executable_return(bouncing):
    score = np.random.default_rng(0).normal(size=bouncing.height) + 3000 * bouncing["ret"].to_numpy()
    delays = entry_delays(bouncing, [Forecast("candidate", score, 0.0)])
    assert [each.minutes for each in delays] == list(DELAYS)
    assert delays[0].rank_ic["candidate"] == pytest.approx(spearmanr(score, bouncing["ret"]).statistic)
    assert [each.rows for each in delays] == [SESSIONS * (MINUTES - minutes) for minutes in DELAYS]
    assert abs(delays[1].rank_ic["candidate"]) < 0.05, "the next minute's return is independent"


def test_delayed_entry_takes_the_return_of_the_later_row_and_skips_gaps(bouncing):
    day = bouncing.head(MINUTES).with_row_index().filter(pl.col("index") != 7).drop("index")
    score = np.arange(day.height, dtype=float)
    delayed = entry_delays(day, [Forecast("candidate", score, 0.0)])[2]
    wanted = {row["ts"]: row["ret"] for row in day.iter_rows(named=True)}
    later = [wanted.get(ts + timedelta(minutes=2)) for ts in day["ts"]]
    pairs = [(s, r) for s, r in zip(score, later, strict=True) if r is not None]
    assert delayed.rows == len(pairs) == MINUTES - 1 - 2 - 1
    assert delayed.rank_ic["candidate"] == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
