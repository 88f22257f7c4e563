"""A run without the VIX: no file is needed, no column is silently empty, and whoever asks for it is told."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import InvalidValueError, MissingInputError
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.lake.store import Lake

from .conftest import NOW

pytestmark = pytest.mark.slow

WITHOUT = {"data.vix": "none"}


@pytest.fixture
def without_file(delivery):
    """The delivery without its VIX file."""
    next(delivery.glob("VIX*")).unlink()
    return delivery


def features(lake: str) -> pl.DataFrame:
    return Lake(lake).read_frame("features/ES/ESH23.parquet")


def test_bars_and_features_pass_their_gates_without_a_vix_file(lake, start, without_file):
    start(overrides=WITHOUT)
    pipeline.run_until(lake, "night", "gate-leakage", NOW)
    assert Lake(lake).read_frame("bars/ES/ESH23.parquet")["vix"].is_null().all()
    left_out = set(FEATURE_NAMES) - set(features(lake).columns)
    assert left_out == {"vix_lag1", "vix_chg_5d", "vrp"}


def test_features_are_those_of_a_run_with_the_vix_but_for_its_family(lake, start):
    start("with")
    pipeline.run_until(lake, "with", "features", NOW)
    expected = features(lake).drop("vix_lag1", "vix_chg_5d", "vrp")
    start("without", overrides=WITHOUT | {"machine.chunk_rows": 5000})
    pipeline.run_until(lake, "without", "features", NOW)
    assert features(lake).equals(expected)
    assert (
        "VIX_History.csv: VIX closes that this run does not use"
        in Lake(lake).read_json("runs/without/stages/plan.json")["notes"]
    )
    assert Lake(lake).exists("vix/VIX.parquet"), "the closes of other runs stay"


def test_instruments_entry_can_leave_the_vix_out(lake, start, without_file, tmp_path, monkeypatch):
    own = tmp_path / "own.toml"
    own.write_text("[ES]\nvix = false\n")
    monkeypatch.setenv("VPOC_INSTRUMENTS", str(own))
    start()
    assert pipeline.plan_contracts(lake, "night").vix is None
    start("insists", overrides={"data.vix": "required"})
    with pytest.raises(MissingInputError, match=r"data\.vix=none goes without"):
        pipeline.plan_contracts(lake, "insists")


def test_features_of_the_vix_are_refused_before_anything_is_computed(lake, start, without_file):
    start(overrides=WITHOUT | {"features.names": "vwap,vrp"})
    with pytest.raises(InvalidValueError, match=r"no features of the VIX, because data\.vix is none; was 'vrp'"):
        pipeline.plan_contracts(lake, "night")
