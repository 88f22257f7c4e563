"""Bar by bar, a scorer has the bits of the batch: a full session, a roll, holes, further families, prices below 0."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.leakage.generated_markets import awkward, martingale, regular
from vpoc_ml.scoring.batch import score_bars
from vpoc_ml.scoring.live import Scorer
from vpoc_ml.scoring.predictions import predictions_of

from .replay import batch_features, live_market, new_bars, stack

pytestmark = pytest.mark.slow


def bits(frame):
    return frame.select(frame.columns[3:]).to_numpy().view(np.int32)


def replayed(scorer, bars, *, ending=False):
    """Return the predictions of bars that arrive one by one, and the features at each.

    ``ending``: each session is ended before the first bar of the next one.
    """
    predictions, features, sessions = [], [], bars["session"].to_list()
    for bar, session, before in zip(new_bars(bars), sessions, [sessions[0], *sessions], strict=False):
        if ending and session != before:
            scorer.end_session()
        predictions.append(scorer.update(bar))
        features.append(scorer.features)
    return predictions, pl.concat(features)


def require_equal(live, found, expected, bars):
    """Compare features and predictions with those of the batch, bit by bit."""
    predictions, features = found
    assert features.schema == expected.schema
    assert features.select("ts", "contract", "session").equals(expected.select("ts", "contract", "session"))
    differs = (bits(features) != bits(expected)).any(axis=0)
    assert not differs.any(), [name for name, wrong in zip(features.columns[3:], differs, strict=True) if wrong]
    known = expected.with_columns(close=bars["close"])
    scores = score_bars(live.model, known, live.rules, key=live.key, model_version=live.version)
    assert [each for each in predictions if each is not None] == list(predictions_of(scores.frame))
    assert sum(each is None for each in predictions) == scores.skipped


def test_a_full_session_and_the_first_bars_after_the_roll():
    old, new = martingale(2, seed=5)
    features = batch_features(old)
    live = stack(features)
    session = old.bars.filter(pl.col("session") == old.bars["session"][-1])
    assert session.height == 1380
    before = old.bars[: -session.height]
    found = replayed(Scorer(live, live_market(old, before)), session)
    require_equal(live, found, features[-session.height :], session)
    assert 0 < sum(each.abstained for each in found[0]) < session.height
    rolled = new.bars.head(90)
    found = replayed(Scorer(live, live_market(new, new.bars.clear())), rolled)
    require_equal(live, found, batch_features(new)[:90], rolled)


@pytest.mark.parametrize("known", [0, 130])
def test_holes_a_half_day_thin_trading_and_further_families(known):
    market, extras = awkward(), ("covariates", "cointegration", "hurst")
    features = batch_features(market, extras)
    live = stack(features)
    scorer = Scorer(live, live_market(market, market.bars[:known], extras))
    found = replayed(scorer, market.bars[known:], ending=known > 0)
    assert found[0][0] is None, "before it is front the contract is in its warm-up"
    require_equal(live, found, features[known:], market.bars[known:])


def test_prices_below_zero_have_no_relative_features():
    market = regular(26)
    shift = float(market.bars["close"].median())
    lowered = market.bars.with_columns(pl.col(name) - shift for name in ("open", "high", "low", "close"))
    market = replace(market, bars=lowered)
    features = batch_features(market)
    live = stack(batch_features(regular(26)))
    found = replayed(Scorer(live, live_market(market, lowered[:-100])), lowered[-100:])
    require_equal(live, found, features[-100:], lowered[-100:])
    assert features["mom_15m"][-100:].is_nan().any()


def test_an_ended_session_takes_no_further_bar_and_the_next_one_is_as_without():
    market = regular(26)
    live, first = stack(batch_features(market)), market.bars["session"][-1]
    count = market.bars.filter(pl.col("session") == first).height
    known, last, new = market.bars[: -count - 1], market.bars[-count - 1 : -count], market.bars[-count:][:5]
    scorer, other = (Scorer(live, live_market(market, known)) for _ in range(2))
    scorer.end_session()
    scorer.end_session()
    features = scorer.features
    with pytest.raises(InvalidValueError, match="a later one: this one has been ended"):
        scorer.update(next(new_bars(last)))
    assert scorer.features.equals(features)
    predictions, found = replayed(scorer, new)
    expected, rows = replayed(other, new)
    assert predictions == expected
    assert (bits(found) == bits(rows)).all()


def test_a_bar_that_cannot_be_is_refused_and_changes_nothing():
    market = regular(26)
    features = batch_features(market)
    live, last = stack(features), market.bars[-1:]
    scorer = Scorer(live, live_market(market, market.bars[:-1]))
    (bar,) = new_bars(last)
    for wrong, reason in (
        (bar._replace(ts=bar.ts - timedelta(days=1)), "later than"),
        (bar._replace(ts=bar.ts + timedelta(days=365)), "trading hours"),
        (bar._replace(ts=bar.ts.replace(hour=21, minute=30)), "trading hours"),
        (bar._replace(close=bar.close + 0.1), "tick grid"),
        (bar._replace(high=bar.low - 0.25), "low <= open"),
        (bar._replace(volume=-1), "volume >= 0"),
        (bar._replace(open=float("nan")), "tick grid"),
    ):
        with pytest.raises(InvalidValueError, match=reason):
            scorer.update(wrong)
    assert scorer.update(bar) is not None
    assert np.array_equal(bits(scorer.features), bits(features[-1:]))
