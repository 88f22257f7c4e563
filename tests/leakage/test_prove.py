"""The product's own builder passes every check; the proof counts its comparisons and fails for a leak."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.leakage_proof import LeakageProof
from vpoc_ml.config import ProfileConfig, nightly
from vpoc_ml.features.registry import FEATURE_NAMES, REGISTRY
from vpoc_ml.leakage.comparison import differences
from vpoc_ml.leakage.invariance import check_sample
from vpoc_ml.leakage.placebo import LARGEST
from vpoc_ml.leakage.product_builders import feature_builder, streamed, training_set_builder, walk_forward_builder
from vpoc_ml.leakage.prove import CHECK_DESCRIPTIONS, prove

pytestmark = pytest.mark.slow

CONFIG = nightly()
PROFILE = ProfileConfig()


@pytest.fixture(scope="module")
def proof() -> LeakageProof:
    return prove(
        feature_builder(), REGISTRY, training_set_builder(CONFIG), walk_forward_builder(CONFIG), CONFIG.dataset
    )


def stream(market, rows, skip):
    return streamed(market, rows, PROFILE, skip=skip)


def test_the_product_passes_every_check(proof):
    assert [one.line() for one in proof.violations] == []
    assert proof.passed
    assert proof.features == FEATURE_NAMES
    assert set(proof.comparisons) == set(CHECK_DESCRIPTIONS)
    assert min(proof.comparisons.values()) > 0


def test_every_feature_stays_below_the_limit_of_the_placebo(proof, record_property):
    name, most = proof.largest_t.feature, proof.largest_t.t
    record_property("largest_t", f"{name} {most:.2f}")
    assert set(proof.skills) == set(FEATURE_NAMES)
    assert 0 < most < LARGEST


def test_the_proof_is_strict_json(proof):
    stored = json.loads(json.dumps(proof.to_json(), allow_nan=False))
    assert stored["passed"] is True
    assert stored["largest_t"]["feature"] == proof.largest_t.feature
    assert set(stored["t"]) == set(FEATURE_NAMES)
    assert LeakageProof.model_validate(stored) == proof


def test_one_feature_that_uses_the_session_s_end_fails_the_proof():
    def build(market, rows):
        made = feature_builder()(market, rows)
        end = market.bars.select(pl.col("close").last().over("session") - pl.col("close")).to_series()
        return made.select("ts", "contract", "session", "rv_30", mom_15m=end.cast(pl.Float32))

    failed = prove(
        build, REGISTRY, training_set_builder(CONFIG), walk_forward_builder(CONFIG), CONFIG.dataset, contracts=2
    )
    assert not failed.passed
    checks = {one.check for one in failed.violations if one.feature == "mom_15m"}
    assert {"prefix", "future_perturbation", "lookback", "placebo"} <= checks
    assert not {one.check for one in failed.violations if one.feature == "rv_30"} - {"training"}


def test_a_check_that_compared_nothing_does_not_pass(proof):
    assert not proof.model_copy(update={"comparisons": proof.comparisons | {"prefix": 0}}).passed


# ---------------------------------------------------------------- the nightly sample


@pytest.fixture(scope="module")
def stored(unpredictable):
    """The newest contract and its features as a run stores them."""
    return feature_builder()(unpredictable[-1], None)


def test_stored_features_of_a_long_contract_pass(unpredictable, stored):
    found = check_sample(feature_builder(), stream, unpredictable[-1], stored, 3)
    assert found.violations == []
    assert all(found.comparisons.values())


def test_stored_features_of_a_short_contract_across_its_roll_pass(rough):
    found = check_sample(feature_builder(), stream, rough, feature_builder()(rough, None), 3)
    assert found.violations == []


@pytest.mark.parametrize("rows", [1, 3, 178])
def test_a_contract_of_a_few_bars_can_be_sampled(rough, rows):
    few = rough.head(rows)
    found = check_sample(feature_builder(), stream, few, feature_builder()(few, None), rows)
    assert found.violations == []
    assert all(found.comparisons.values())


def test_stored_features_that_are_not_those_of_the_bars_are_found(unpredictable, stored):
    market = unpredictable[-1]
    shifted = stored.with_columns(pl.col("mom_15m").shift(-1))
    found = check_sample(feature_builder(), stream, market, shifted, 3).violations
    assert {one.feature for one in found} == {"mom_15m"}
    assert {one.check for one in found} == {"prefix", "future_perturbation", "chunks"}


def test_a_builder_that_looks_ahead_is_found_on_the_run_s_own_bars(unpredictable):
    def build(market, rows):
        made = feature_builder()(market, rows)
        return made.with_columns(pl.Series("mom_15m", market.bars["close"].max() - market.bars["close"]))

    market = unpredictable[-1]
    found = check_sample(build, stream, market, build(market, None), 3).violations
    assert "mom_15m" in {one.feature for one in found}


def test_an_index_used_before_its_publication_is_found(rough):
    extras = ("covariates",)

    def sample(build):
        def chunked(market, rows, skip):
            return build(market, rows).slice(skip)

        return check_sample(build, chunked, rough, build(rough, None), 3).violations

    def early(market, rows):
        hours = pl.col("available_at") - timedelta(hours=23)
        known = {name: values.with_columns(hours) for name, values in market.covariates.items()}
        return feature_builder(extras=extras)(replace(market, covariates=known), rows)

    assert "other_lag1" in feature_builder(extras=extras)(rough, None).columns
    assert sample(feature_builder(extras=extras)) == []
    assert {one.feature for one in sample(early)} == {"other_lag1", "other_chg_5d"}


# ---------------------------------------------------------------- violations


def test_a_violation_names_the_first_cell_that_differs():
    keys = {"ts": [1, 2, 3], "contract": ["A"] * 3, "session": [1] * 3}
    one = pl.DataFrame({**keys, "x": [1.0, np.nan, 0.0], "y": [1.0, 2.0, 3.0]})
    other = pl.DataFrame({**keys, "x": [1.0, np.nan, -0.0], "y": [1.0, 5.0, 4.0]})
    found = differences("prefix", one, other, "otherwise", "Do better.", first_row=10)
    assert [(each.feature, each.row) for each in found] == [("x", 12), ("y", 11)]
    assert "2 rows differ" in found[1].found
    assert differences("prefix", one, one.clone(), "", "") == []
    assert differences("prefix", one, other.head(2), "", "")[0].feature == "*"
