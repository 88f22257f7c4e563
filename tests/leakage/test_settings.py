"""The checks pass for every target, scaling and optional family of a run, and on real bars."""

from __future__ import annotations

from typing import get_args

import polars as pl
import pytest

from vpoc_ml.config import DatasetConfig, IngestConfig, ProfileConfig, resolve
from vpoc_ml.config.choices import Target
from vpoc_ml.features.history import required_history
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.leakage.comparison import KEYS, Market
from vpoc_ml.leakage.generated_markets import awkward
from vpoc_ml.leakage.invariance import check_chunks, check_future_perturbation, check_prefix, check_rolls, check_sample
from vpoc_ml.leakage.product_builders import feature_builder, streamed, training_set_builder
from vpoc_ml.leakage.training_set import check_training
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

from .known_leaks.planted_builders import PLAIN, SEED, caught


def kinds(setting, field):
    return [f"dataset.{setting}={kind}" for kind in get_args(field.annotation)]


TARGETS = kinds("target", Target.model_fields["kind"])
SCALERS = kinds("scaler", DatasetConfig.model_fields["scaler"])


@pytest.mark.parametrize("chosen", [*TARGETS, *SCALERS, "dataset.horizon=15m"])
def test_training_set_of_every_target_and_scaling_depends_on_its_training_rows_only(two_contracts, chosen):
    key, value = chosen.split("=")
    config = resolve("nightly", {key: int(value) if value.isdigit() else value})
    fit = training_set_builder(config)
    assert check_training(fit, PLAIN, two_contracts, config.dataset, SEED).violations == []


def test_optional_families_and_the_pair_they_read_pass():
    chosen = ("cointegration", "fracdiff")
    build = feature_builder(extras=chosen)
    market = awkward(history=required_history(chosen).history, bars=(30, 50))
    features, cuts = build(market, None), [market.roll - 1, market.roll + 1, market.roll + 60]
    assert check_prefix(build, market, features, cuts) == []
    assert check_future_perturbation(build, market, features, cuts, SEED) == []
    assert check_chunks(build, market, features, (50,)) == []
    assert check_rolls(build, market, features) == []


def test_a_close_of_the_pair_used_too_early_is_found(rough):
    def read(strategy):
        def build(market, rows):
            other = market.pair.rename({"close": "other"})
            return market.bars.select(KEYS).join_asof(other, on="ts", strategy=strategy)

        return build

    for strategy, found in (("forward", True), ("backward", False)):
        build = read(strategy)
        features, cuts = build(rough, None), list(range(5, rough.rows, 40))
        assert caught(check_prefix(build, rough, features, cuts), "other", "prefix") is found
        assert (
            caught(check_future_perturbation(build, rough, features, cuts, SEED), "other", "future_perturbation")
            is found
        )


@pytest.mark.real
def test_features_of_a_real_contract_pass_the_nightly_sample(real_data):
    es, vix = instrument("ES"), read_vix(real_data / "vix" / "vix-daily.csv")
    path = real_data / "es_ninjatrader" / "ES 03-25.Last.txt"
    market = Market(build_bars(path, parse_contract("ESH25"), es, vix, IngestConfig()).bars, vix, es)
    build, profile = feature_builder(), ProfileConfig()
    stored = build(market, None)
    found = check_sample(
        build, lambda given, rows, skip: streamed(given, rows, profile, skip=skip), market, stored, SEED
    )
    assert found.violations == []
    ahead = stored.with_columns(pl.col("vpoc_dev_dist").shift(-1))
    found = check_sample(
        build, lambda given, rows, skip: streamed(given, rows, profile, skip=skip), market, ahead, SEED
    )
    assert {one.feature for one in found.violations} == {"vpoc_dev_dist"}
