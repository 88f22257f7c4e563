"""Clean files pass every gate; planted faults are found with their exact count and first timestamps."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.config import DatasetConfig, QualityThresholds
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.quality.rules import features_gate, training_set_gate

GATES = {"bars": "bars", "features": "features", "training-set": "training"}


@pytest.mark.parametrize("gate", GATES)
def test_clean_files_pass_without_any_failure(world, validated, gate):
    verdict = validated(gate, getattr(world, GATES[gate]))
    assert verdict.passed, verdict.message()
    assert not verdict.failures, verdict.message()
    assert verdict.checks > 20


def test_named_features_are_checked_and_the_others_are_only_columns_of_the_file(world, validated):
    wrong = world.features.with_columns(rsi=pl.lit(500, pl.Float32), range=pl.lit(-1, pl.Float32))
    assert {each.column for each in validated("features", wrong).failures} == {"rsi", "range"}
    assert {each.column for each in validated("features", wrong, names=["mom", "rsi"]).failures} == {"rsi"}
    without = validated("features", wrong.drop("range"), names=["mom"])
    assert {(each.column, each.check) for each in without.failures} >= {("range", "schema")}


def test_features_that_may_rest_at_a_bound_have_no_outlier_check():
    quality, dataset = QualityThresholds(), DatasetConfig()
    both = features_gate.checks(REGISTRY, quality), training_set_gate.checks(list(REGISTRY), dataset, quality)
    checked, again = ({check.column for check in checks if check.name == "beyond"} for checks in both)
    assert checked == again
    assert {"mom_15m", "vol_ratio_30", "har_d", "vwap"} <= checked
    assert not checked & {"naked_up", "close_loc", "kyle_lambda_60", "is_rth", "profile_cdf"}
