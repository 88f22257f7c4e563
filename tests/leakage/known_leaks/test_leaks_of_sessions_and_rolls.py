"""Values of the complete session, of the wrong day, and of the wrong contract."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.config import ProfileConfig
from vpoc_ml.leakage.comparison import KEYS
from vpoc_ml.leakage.invariance import check_future_perturbation, check_prefix, check_rolls, cut_rows
from vpoc_ml.leakage.lookback import check_as_of, check_lookback
from vpoc_ml.leakage.placebo import check_placebo, skills
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

from .planted_builders import SEED, caught, declared, over_bars, with_carry

CLOSE = pl.col("close")
SQUARE = (CLOSE.log() - CLOSE.log().shift(1).over("session")) ** 2
FAR = 6.0
"""A t far above the limit of 4."""


def of_final(column, values):
    """Return a builder of a column made of the close and the final levels of the session, known only at its end."""

    def build(market, rows):
        final = build_sessions(market.bars, market.instrument, ProfileConfig()).select("session", *values)
        final = final.rename({name: f"final_{name}" for name in values})
        bars = market.bars.join(final, on="session", how="left", maintain_order="left")
        return bars.select(KEYS, leak=column)

    return build


final_vpoc = of_final(CLOSE - pl.col("final_vpoc"), ("vpoc",))
final_range = of_final((CLOSE - pl.col("final_low")) / (pl.col("final_high") - pl.col("final_low")), ("high", "low"))


def developing_vpoc(market, rows):
    levels = build_developing(market.bars, market.instrument, ProfileConfig())
    return market.bars.select(KEYS, leak=CLOSE - levels["vpoc"])


def t_of(build, markets):
    return skills((market, build(market, None)) for market in markets)["leak"]


def prefixed(build, market):
    return check_prefix(build, market, build(market, None), cut_rows(market, 12, SEED))


def interleaved(market, rows):
    """All contracts sorted by time, the last of duplicate timestamps kept, then windows over the lot."""
    columns = ["ts", "contract", "session", "close"]
    both = (
        pl.concat([market.predecessor.bars.select(columns), market.bars.select(columns)])
        if market.predecessor
        else (market.bars.select(columns))
    )
    series = both.sort("ts", maintain_order=True).unique("ts", keep="last", maintain_order=True)
    series = series.with_columns(return_5m=CLOSE / CLOSE.shift(5) - 1)
    return market.bars.select(KEYS).join(series.select("ts", "return_5m"), on="ts", how="left", maintain_order="left")


def test_known_leak_08_windows_run_across_the_roll_over_interleaved_contracts(rough):
    assert caught(check_rolls(interleaved, rough, interleaved(rough, None)), "return_5m", "rolls")


def test_known_leak_08_rows_of_another_contract_are_rejected(rough):
    def both(market, rows):
        frames = [market.bars.select(KEYS, x=CLOSE)]
        if market.predecessor is not None:
            frames.append(market.predecessor.bars.tail(5).select(KEYS, x=CLOSE))
        return pl.concat(frames).sort("ts")

    assert caught([check_rolls(both, rough, both(rough, None))[0]], "*", "rolls")


def test_known_leak_08_a_contract_with_its_own_rows_and_its_adjusted_past_passes(rough):
    def adjusted(market, rows):
        own = market.bars.select(*KEYS, "close")
        before = own.head(0)
        past = market.predecessor
        if past is not None:
            before = past.bars.select(*KEYS, CLOSE * past.ratio)
        parts = [own.head(market.roll), pl.concat([before, own.slice(market.roll)])]
        change = [part.with_columns(x=CLOSE / CLOSE.shift(5) - 1) for part in parts if part.height]
        return pl.concat(change).filter(pl.col("contract") == own["contract"][0]).drop("close")

    assert check_rolls(adjusted, rough, adjusted(rough, None)) == []


def test_known_leak_11_final_vpoc_is_used_inside_the_session(rough, unpredictable):
    assert caught(prefixed(final_vpoc, rough), "leak", "prefix")
    found = t_of(final_vpoc, unpredictable)
    assert abs(found.signed) > 2 * FAR
    assert caught(check_placebo({"leak": found}), "leak", "placebo")
    assert prefixed(developing_vpoc, rough) == []
    assert check_placebo({"leak": t_of(developing_vpoc, unpredictable)}) == []


def test_known_leak_11_position_in_the_final_range(rough, unpredictable):
    assert caught(prefixed(final_range, rough), "leak", "prefix")
    assert abs(t_of(final_range, unpredictable).signed) > 2 * FAR


def test_known_leak_11_centred_mean(rough, unpredictable):
    build = over_bars(lambda bars: {"leak": CLOSE - CLOSE.rolling_mean(61, center=True, min_samples=1)})
    assert caught(prefixed(build, rough), "leak", "prefix")
    assert abs(t_of(build, unpredictable).signed) > 2 * FAR


def bipower():
    size = (CLOSE.log() - CLOSE.log().shift(1).over("session")).abs()
    return (size * size.shift(1).over("session")).sum().over("session").sqrt()


@pytest.mark.parametrize("daily", [SQUARE.sum().over("session").sqrt(), bipower()], ids=["realised", "bipower"])
def test_known_leak_12_volatility_of_the_full_day_is_merged_onto_its_minutes(rough, unpredictable, daily):
    build = over_bars(lambda bars: {"leak": daily})
    assert caught(prefixed(build, rough), "leak", "prefix")
    found = t_of(build, unpredictable)
    assert abs(found.signed) < 4 < FAR < found.absolute


def test_known_leak_12_volatility_so_far_is_no_leak(rough, unpredictable):
    build = with_carry(lambda bars: {"leak": SQUARE.fill_null(0).cum_sum().over("session").sqrt()})
    assert prefixed(build, rough) == []
    assert check_placebo({"leak": t_of(build, unpredictable)}) == []


def test_known_leak_12_calendar_date_of_the_timestamp_instead_of_the_trade_date(steady):
    def so_far(key):
        return lambda bars: {"rv": SQUARE.fill_null(0).cum_sum().over(key).sqrt()}

    by_date, by_session = (with_carry(so_far(key)) for key in (pl.col("ts").dt.date(), "session"))
    registry = declared("rv", "session", family="volatility")
    assert caught(check_lookback(by_date, steady, by_date(steady, None), registry), "rv", "lookback")
    assert check_lookback(by_session, steady, by_session(steady, None), registry) == []


def same_day_vix(market, rows):
    known = market.vix.select(session="date", vix_lagged="close")
    return market.bars.select(KEYS).join(known, on="session", how="left", maintain_order="left")


def vix_at_or_before(market, rows):
    known = market.vix.select(ts="available_at", vix_lagged="close")
    return market.bars.select(KEYS).join_asof(known, on="ts")


def vix_before(market, rows):
    return market.bars.select(*KEYS, vix_lagged="vix")


def test_known_leak_17_vix_close_is_attached_to_the_minutes_of_its_own_day(rough, unpredictable):
    registry = declared("vix_lagged", "1 d", family="vix")
    features, cuts = same_day_vix(rough, None), cut_rows(rough, 12, SEED)
    assert caught(
        check_future_perturbation(same_day_vix, rough, features, cuts, SEED), "vix_lagged", "future_perturbation"
    )
    assert caught(check_as_of(same_day_vix, rough, features, registry), "vix_lagged", "as_of")
    found = skills((market, same_day_vix(market, None)) for market in unpredictable)["vix_lagged"]
    assert abs(found.signed) > FAR


def test_known_leak_17_a_close_is_not_known_in_the_bar_that_starts_as_it_is_published(rough):
    registry = declared("vix_lagged", "1 d", family="vix")
    violations = check_as_of(vix_at_or_before, rough, vix_at_or_before(rough, None), registry)
    assert caught(violations, "vix_lagged", "as_of")
    assert "1 bars early" in violations[0].found
    assert check_as_of(vix_before, rough, vix_before(rough, None), registry) == []


def test_known_leak_17_a_series_without_a_time_of_publication_is_rejected(rough):
    from dataclasses import replace

    undated = replace(rough, vix=rough.vix.drop("available_at"))
    assert check_as_of(vix_before, undated, vix_before(rough, None), {})[0].feature == "vix"


def test_a_feature_outside_the_family_vix_does_not_read_it(rough):
    registry = declared("vix_lagged", "-", family="price")
    assert caught(check_as_of(vix_before, rough, vix_before(rough, None), registry), "vix_lagged", "as_of")
