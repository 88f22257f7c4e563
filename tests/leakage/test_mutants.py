"""The product's own features with one error each: one bar off, a session too late, a time too early."""

from __future__ import annotations

import numpy as np
import pytest

from vpoc_ml.features import levels
from vpoc_ml.features.build import FUNCTIONS
from vpoc_ml.features.registry import REGISTRY, Feature
from vpoc_ml.leakage.invariance import check_future_perturbation, check_prefix, check_rolls
from vpoc_ml.leakage.lookback import Lookback, check_as_of, check_lookback, declared_lookback
from vpoc_ml.leakage.product_builders import feature_builder

UNBOUNDED = (-np.inf, np.inf)


def vix_known_too_early(x):
    close = x.vix["close"].to_numpy()
    published, starts = (each.to_physical().to_numpy() for each in (x.vix["available_at"], x.frame["ts"]))
    last = np.searchsorted(published, starts, side="right") - 1
    return np.where(last >= 5, np.log(close[last] / close[last - 5]), np.nan)


def of_next_session(x, values):
    """The result of indexing with the wrong sign."""
    return values[np.minimum(x.day + 1, values.size - 1)]


def vpoc_migration(x, sessions):
    return (x.of_session(x.daily["vpoc"], 1) - x.of_session(x.daily["vpoc"], sessions)) / x.atr


MUTANTS = {
    "mom_15m": (lambda x: 1e4 * np.log(x.close / x.close_ago(16)), {"lookback"}),
    "mom_60m": (lambda x: 1e4 * np.log(x.close / x.close_ago(59)), {"lookback"}),
    "price_mom_3d": (lambda x: 100 * np.log(x.close / x.of_session(x.daily["close"], 4)), {"lookback"}),
    "price_mom_5d": (lambda x: 100 * np.log(x.close / x.of_session(x.daily["close"], 4)), {"lookback"}),
    "close_change_pct": (
        lambda x: 100 * (x.close / x.close_ago(1) - 1) * x.close[-1],
        {"prefix", "future_perturbation"},
    ),
    "vpoc_dev_dist": (
        lambda x: (x.close - x.of_session(x.daily["vpoc"], 0)) / x.atr,
        {"prefix", "future_perturbation"},
    ),
    "vpoc_migr_5d": (lambda x: vpoc_migration(x, 5), {"lookback"}),
    "gap_open": (lambda x: (x.close - of_next_session(x, x.daily["close"])) / x.atr, {"prefix", "future_perturbation"}),
    "vix_chg_5d": (vix_known_too_early, {"as_of"}),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_one_wrong_feature_is_found_and_no_other(monkeypatch, rough, steady, name):
    function, expected = MUTANTS[name]
    monkeypatch.setitem(FUNCTIONS, name, function)
    build = feature_builder()
    features, regular = build(rough, None), build(steady, None)
    cuts = [150, rough.roll + 1, 333, 400]
    violations = [
        *check_lookback(build, steady, regular, REGISTRY),
        *check_as_of(build, rough, features, REGISTRY),
        *check_rolls(build, rough, features),
        *check_prefix(build, rough, features, cuts),
        *check_future_perturbation(build, rough, features, cuts, 3),
    ]
    assert {one.feature for one in violations} == {name}
    assert {one.check for one in violations} >= expected


@pytest.mark.parametrize(("sessions", "message"), [(4, "none in its last bar"), (6, "one of 6")])
def test_a_profile_of_one_session_more_or_less_is_found(monkeypatch, steady, sessions, message):
    monkeypatch.setattr(levels, "COMPOSITE_SESSIONS", sessions)
    build = feature_builder()
    (found,) = check_lookback(build, steady, build(steady, None), REGISTRY)
    assert (found.feature, found.found) == ("hvn_dist_5d", message)


@pytest.mark.parametrize(
    ("window", "sessions", "bars", "lookback"),
    [
        ("15 m", 2, 15, Lookback("m", 15, 15)),
        ("20 m", 2, 19, Lookback("m", 19, 19)),
        ("1 m", 0, 0, Lookback("m", 0, 0)),
        ("14 m", 2, 390, Lookback("m", 13, 390)),
        ("12/26/9 m", 2, 390, Lookback("m", 0, 390)),
        ("3 d", 3, 0, Lookback("d", 3, 3)),
        ("1 d", 14, 0, Lookback("d", 1, 15)),
        ("20 d", 21, 0, Lookback("d", 20, 21)),
        ("up to 20 d", 20, 0, Lookback("d", 0, 20)),
        ("session", 0, 0, Lookback("d", 0, 0)),
        ("session", 14, 0, Lookback("d", 0, 15)),
        ("-", 0, 0, Lookback("d", 0, 0)),
    ],
)
def test_window_and_warm_up_declare_a_lookback(window, sessions, bars, lookback):
    assert declared_lookback(Feature("x", "price", "", window, "", UNBOUNDED, UNBOUNDED, sessions, bars)) == lookback
