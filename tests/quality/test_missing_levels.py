"""Gate ``features`` on sessions without volume: level features have no value there, which is no defect."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from vpoc_ml.quality.checks import ContractFacts, MarketFacts
from vpoc_ml.quality.gates import validate_bars, validate_features

NAN = float("nan")


@pytest.fixture
def silent(world):
    """The world with session 5 without volume and session 12 untraded before its eleventh bar."""
    days = sorted(world.bars["session"].unique())
    opening = (pl.col("session") == days[11]) & (pl.col("ts").rank("ordinal").over("session") <= 10)
    untraded = opening | (pl.col("session") == days[4])
    bars = world.bars.with_columns(volume=pl.when(untraded).then(0).otherwise("volume"))
    missing = opening | pl.col("session").is_between(days[4], days[10])
    features = world.features.with_columns(rsi=pl.when(missing).then(NAN).otherwise("rsi").cast(pl.Float32))
    return replace(world, bars=bars, features=features)


def verdict(world, family, features):
    registry = {name: replace(known, family=family) for name, known in world.registry.items()}
    return validate_features(
        {"ESH25": world.file("features", features)},
        bars={"ESH25": world.file("keys", world.bars)},
        registry=registry,
        run="run1",
        reports_dir=world.reports,
        now=world.now,
    )


def test_a_level_feature_may_be_missing_without_volume(silent):
    assert verdict(silent, "levels", silent.features).passed


def test_another_feature_may_not_be_missing(silent):
    (failure,) = [each for each in verdict(silent, "price", silent.features).failures if each.check == "late"]
    assert (failure.column, failure.count) == ("rsi", 7 * 120 + 10)


def test_a_level_feature_missing_elsewhere_is_found(silent):
    last = silent.features["ts"][-1]
    features = silent.features.with_columns(
        rsi=pl.when(pl.col("ts") == last).then(NAN).otherwise("rsi").cast(pl.Float32)
    )
    (failure,) = [each for each in verdict(silent, "levels", features).failures if each.check == "late"]
    assert (failure.count, failure.first) == (1, (last.isoformat(),))


def test_gate_bars_names_the_sessions_without_volume(world):
    silent_day = world.calendar["session"][4]
    bars = world.bars.with_columns(volume=pl.when(pl.col("session") == silent_day).then(0).otherwise("volume"))
    contracts = {"ESH25": ContractFacts(world.file("bars", bars), world.calendar)}
    verdict = validate_bars(contracts, MarketFacts(0.25), run="run1", reports_dir=world.reports, now=world.now)
    (warning,) = [each for each in verdict.failures if each.check == "profile"]
    assert (warning.severity, warning.count, warning.first) == ("warning", 1, (silent_day.isoformat(),))
