"""Crude oil around 20 April 2020: prices below zero are valid, and features that need their logarithm are missing."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import ProfileConfig
from vpoc_ml.config.choices import Horizon
from vpoc_ml.dataset.labels import label_bars
from vpoc_ml.features.build import build_features
from vpoc_ml.features.registry import OPTIONAL_FAMILIES, REGISTRY, for_prices_near_zero, selected_features
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.quality.checks import ContractFacts, MarketFacts
from vpoc_ml.quality.gates import validate_bars, validate_features

CL = instrument("CL")
CRASH = date(2020, 4, 20)
EXTRAS = tuple(name for name in OPTIONAL_FAMILIES if name not in ("cointegration", "garch"))
NOW = datetime(2020, 5, 1, tzinfo=UTC)
PRICES = ["open", "high", "low", "close"]


def build(bars: pl.DataFrame, vix: pl.DataFrame, extras: tuple[str, ...] = EXTRAS) -> pl.DataFrame:
    config = ProfileConfig()
    levels = build_sessions(bars, CL, config), build_developing(bars, CL, config)
    return build_features(bars, *levels, vix, CL, extras=extras)


@pytest.fixture(scope="module")
def calendar() -> pl.DataFrame:
    return sessions(CL.calendar, date(2020, 1, 24), date(2020, 4, 30))


@pytest.fixture(scope="module")
def vix(calendar: pl.DataFrame) -> pl.DataFrame:
    days = calendar["session"]
    return pl.DataFrame({"date": days, "close": 30.0 + np.arange(days.len()) % 7}).with_columns(
        available_at=available_at("date")
    )


@pytest.fixture(scope="module")
def bars(calendar: pl.DataFrame) -> pl.DataFrame:
    """65 sessions of 240 minutes that walk around 50 dollars; on 20 April they fall to about -37 and come back."""
    draw = np.random.default_rng(20200420)
    parts, close = [], 5000
    for row in calendar.head(65).iter_rows(named=True):
        steps = draw.integers(-3, 4, 240)
        if row["session"] == CRASH:
            steps[100:190] -= 100
            steps[200:] += 225
        closes = close + np.cumsum(steps)
        opens = np.concatenate(([close], closes[:-1]))
        spread = draw.integers(1, 4, (2, 240))
        parts.append(
            pl.DataFrame(
                {
                    "ts": [row["open"] + timedelta(minutes=n) for n in range(240)],
                    "contract": "CLK20",
                    "session": row["session"],
                    "rth": False,
                    "open": opens / 100,
                    "high": (np.maximum(opens, closes) + spread[0]) / 100,
                    "low": (np.minimum(opens, closes) - spread[1]) / 100,
                    "close": closes / 100,
                    "volume": draw.integers(50, 500, 240),
                    "vix": 30.0,
                }
            )
        )
        close = int(closes[-1])
    return pl.concat(parts).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


@pytest.fixture(scope="module")
def features(bars: pl.DataFrame, vix: pl.DataFrame) -> pl.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return build(bars, vix)


def missing(features: pl.DataFrame, name: str) -> pl.DataFrame:
    return features.filter(pl.col(name).is_nan())


def below(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(pl.col("low") <= 0)


def test_the_example_trades_below_zero_and_back(bars):
    assert bars["low"].min() < -30
    assert bars["close"][-1] > 20


def test_a_return_is_missing_where_it_touches_a_price_at_or_below_zero(bars, features):
    rows = np.flatnonzero(bars["low"].to_numpy() <= 0)
    for name, back in (
        ("close_change_pct", 1),
        ("mom_15m", 15),
        ("amihud_60", 60),
        ("park_60", 59),
        ("price_range", 0),
    ):
        found = np.flatnonzero(np.isnan(features[name].to_numpy()))
        expected = np.arange(rows[0], rows[-1] + back + 1)
        assert np.array_equal(found[found >= rows[0]], expected), name


def test_a_feature_of_sessions_is_missing_until_the_session_has_left_its_window(bars, features):
    days = bars["session"].unique().sort()
    at = days.index_of(CRASH)
    for name, back in (("har_d", 1), ("har_w", 5), ("price_mom_3d", 3), ("mom_sess", 0), ("vwap", 0)):
        late = missing(features, name).filter(pl.col("session") >= CRASH)["session"].unique().sort()
        assert late.to_list() == days[at : at + back + 1].to_list(), name


def test_features_without_a_logarithm_do_not_depend_on_the_position_of_zero(bars, vix, features):
    shifted = build(bars.with_columns(pl.col(PRICES) + 100), vix)
    known = selected_features(EXTRAS)
    free = [name for name, feature in known.items() if feature.price_lookback is None]
    assert {"rsi_14", "naked_dn", "vpoc_dev_dist", "hvn_dist_5d", "vwap_z", "alpha_rsv_30m"} <= set(free)
    for name in free:
        np.testing.assert_allclose(features[name], shifted[name], atol=1e-6, err_msg=name)


def test_values_are_finite_and_unchanged_before_the_fall(bars, vix, features):
    assert not features.select(pl.any_horizontal(pl.col(pl.Float32).is_infinite().any())).item()
    early = bars.filter(pl.col("session") < CRASH)
    assert build(early, vix).equals(features.head(early.height))


def test_levels_move_with_the_prices(bars):
    config = ProfileConfig()
    shifted = bars.with_columns(pl.col(PRICES) + 100)
    for build_levels in (build_sessions, build_developing):
        one, other = build_levels(bars, CL, config), build_levels(shifted, CL, config)
        for name in ("vpoc", "vah", "val"):
            np.testing.assert_allclose(one[name] + 100, other[name], atol=1e-9)


def test_gate_bars_requires_positive_prices_only_where_the_instrument_does(tmp_path, bars, calendar):
    bars.write_parquet(tmp_path / "bars.parquet")

    def outside(*, negative_prices: bool) -> set[str]:
        market = MarketFacts(CL.tick_size, price_range=CL.price_range, negative_prices=negative_prices)
        contracts = {"CLK20": ContractFacts(tmp_path / "bars.parquet", calendar)}
        verdict = validate_bars(contracts, market, run="run1", reports_dir=tmp_path / "reports", now=NOW)
        return {each.column for each in verdict.failures if each.check == "outside"}

    assert outside(negative_prices=CL.negative_prices) == set()
    assert outside(negative_prices=False) == set(PRICES)


def test_gate_features_allows_these_gaps_and_finds_any_other(tmp_path, bars, features):
    last = pl.col("ts") == features["ts"][-1]
    broken = features.with_columns(mom_15m=pl.when(~last).then("mom_15m").otherwise(float("nan")).cast(pl.Float32))
    bars.write_parquet(tmp_path / "bars.parquet")
    broken.select("ts", "contract", "session", *REGISTRY).write_parquet(tmp_path / "features.parquet")
    verdict = validate_features(
        {"CLK20": tmp_path / "features.parquet"},
        bars={"CLK20": tmp_path / "bars.parquet"},
        registry=for_prices_near_zero(REGISTRY),
        run="run1",
        reports_dir=tmp_path / "reports",
        now=NOW,
    )
    kinds = ("late", "infinite", "empty", "outside")
    found = [(each.check, each.column, each.count) for each in verdict.failures if each.check in kinds]
    assert found == [("late", "mom_15m", 1)]


def test_labels_at_or_below_zero_are_missing(bars):
    labels = label_bars(bars, Horizon.of("1m"), "close", 0.1)
    close, follow = bars["close"].to_numpy(), np.append(bars["close"].to_numpy()[1:], np.nan)
    known = np.isfinite(labels["ret"].to_numpy())
    assert not known[(close <= 0) | (follow <= 0)].any()
    assert not np.isfinite(labels["last_ret"].to_numpy()[close <= 0]).any()
    assert known.sum() > 0.95 * (close > 0).sum()
