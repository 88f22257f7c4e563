"""Own features: what a run computes with them, what the leakage gate finds, what a change makes stale."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from vpoc_ml import pipeline
from vpoc_ml.config import ProfileConfig, resolve
from vpoc_ml.errors import InvalidValueError, PluginError
from vpoc_ml.features.build import optional_values
from vpoc_ml.features.history import required_history
from vpoc_ml.features.inputs import build_inputs
from vpoc_ml.features.registry import REGISTRY, known_features, selected_features
from vpoc_ml.lake.store import Lake
from vpoc_ml.leakage.generated_markets import awkward, regular
from vpoc_ml.leakage.product_builders import feature_builder
from vpoc_ml.pipeline.gate_stages import prove_code
from vpoc_ml.plugins.load import activate
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

from .pages import code_of

PAGE = code_of("own-feature.md")
NAME = "path_efficiency_20m"
MUTANT = PAGE.replace("\n\nFEATURES = [", f"\n\n{code_of('own-feature.md', 1)}\n\nFEATURES = [").replace(
    "compute=path_efficiency", "compute=next_move"
)


def test_the_feature_of_the_page_follows_those_of_the_product(write):
    activate(write(PAGE))
    market = regular()
    features = feature_builder(extras=("path",))(market, None)
    assert features.columns[-1] == NAME
    assert list(selected_features(("path",))) == [*REGISTRY, NAME]
    assert NAME not in selected_features(())
    close, row = market.bars["close"].to_numpy(), 500
    moves = np.abs(np.diff(close[row - 20 : row + 1]))
    assert features[NAME][row] == pytest.approx(abs(close[row] - close[row - 20]) / moves.sum(), rel=1e-6)
    assert known_features()[NAME].family == "path"


def test_features_without_the_plugin_are_the_same_bits(write):
    market = regular()
    plain = feature_builder()(market, None)
    activate(write(PAGE))
    assert feature_builder(extras=("path",))(market, None).drop(NAME).equals(plain)


@pytest.mark.slow
def test_the_proof_covers_an_own_feature_and_finds_no_fault(write):
    activate(write(PAGE))
    proof = proof_of_own()
    assert [each for each in proof.violations if each.feature == NAME] == []
    assert NAME in proof.features
    assert NAME in proof.skills


@pytest.mark.slow
def test_an_own_feature_that_looks_ahead_is_found(write):
    activate(write(MUTANT))
    found = {each.check for each in proof_of_own().violations if each.feature == NAME}
    assert {"prefix", "future_perturbation", "placebo", "lookback"} <= found


def proof_of_own():
    """The proof as gate ``leakage`` makes it."""
    return prove_code(resolve("smoke", {"features.own": "path"}))


def inputs_of(market):
    levels = (build(market.bars, market.instrument, ProfileConfig()) for build in (build_sessions, build_developing))
    return build_inputs(market.bars, *levels, market.vix, market.instrument)


@pytest.mark.parametrize(
    ("result", "found"),
    [("x.close[1:]", r"shape \(\d+,\)"), ("1 / 0", "ZeroDivisionError"), ("None", "shape"), ("['a']", "ValueError")],
)
def test_a_result_that_is_not_one_number_per_bar_names_the_plugin(write, result, found):
    lake = write(PAGE.replace("    bars = x.padded\n", f"    return {result}\n"))
    activate(lake)
    with pytest.raises(PluginError, match=rf"plugins\.py, FEATURES: expected one number per bar.*{found}"):
        optional_values(inputs_of(awkward()), ("path",))


def test_nulls_of_a_series_become_nan(write):
    body = "    import polars as pl\n    return pl.Series([None] + [1.0] * (x.close.size - 1))\n"
    activate(write(PAGE.replace("    bars = x.padded\n", body)))
    values = optional_values(inputs_of(awkward()), ("path",))[NAME]
    assert np.isnan(values[0])
    assert values[1] == 1


def test_history_of_an_own_feature_is_fetched(write):
    activate(write(PAGE.replace("warmup_bars=20,", "warmup_bars=20, history=45,")))
    assert required_history(("path",)).history == 45
    assert required_history().history == 30


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (NAME, "rv_30", "a name that the product does not use; found rv_30"),
        ('family="path"', 'family="garch"', "a family that the product does not use"),
        ('family="path"', 'family="covariates"', "a family that the product does not use"),
    ],
)
def test_a_clash_with_the_product_is_refused_at_the_start(write, start_with, old, new, expected):
    with pytest.raises(PluginError, match=expected):
        start_with(write(PAGE.replace(old, new)))


@pytest.fixture
def start_with():
    """Start a run in a lake."""

    def start(lake, name="night", **overrides):
        return pipeline.start_run(str(lake), name, "smoke", overrides, None, None, datetime(2024, 7, 1, tzinfo=UTC))

    return start


def test_an_unknown_family_is_refused_and_known_ones_are_named(write, start_with):
    lake = write(PAGE)
    with pytest.raises(InvalidValueError, match=r"features\.own.*\(path;.*looked for\); was 'paths'"):
        start_with(lake, **{"features.own": "paths"})
    with pytest.raises(InvalidValueError, match=rf"{NAME} needs features\.own=path"):
        start_with(lake, **{"features.names": NAME})
    start_with(lake, **{"features.own": "path", "features.names": f"rv_30, {NAME}"})
    (shown,) = Lake(lake).read_json("runs/night/own_features.json")["features"]
    assert (shown["name"], shown["family"], shown["soft"]) == (NAME, "path", [0, 1])
    start_with(lake, "plain")
    assert not Lake(lake).exists("runs/plain/own_features.json")


def test_a_family_whose_plugin_is_gone_is_an_error_not_a_missing_column():
    with pytest.raises(InvalidValueError, match="its plugin is not loaded here"):
        optional_values(inputs_of(awkward()), ("path",))
