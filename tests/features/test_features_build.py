"""Shape, warm-up, bounds and input checks of the feature frame."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import TOP5_FEATURES, ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.build import FAMILIES, FUNCTIONS, build_features, in_warmup, warmup_sessions
from vpoc_ml.features.registry import FEATURE_NAMES, REGISTRY
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions


@pytest.fixture(scope="module")
def real_features(real, compute) -> pl.DataFrame:
    return compute(*real)


def test_the_registry_is_complete_and_consistent():
    assert len(FEATURE_NAMES) == 54
    families = [feature.family for feature in REGISTRY.values()]
    assert [family for family, _ in itertools.groupby(families)] == list(FAMILIES)
    assert tuple(FUNCTIONS) == FEATURE_NAMES
    assert set(TOP5_FEATURES) <= set(FEATURE_NAMES)
    for name, feature in REGISTRY.items():
        assert feature.name == name
        assert all((feature.family, feature.formula, feature.window, feature.unit))
        assert feature.hard[0] <= feature.soft[0] < feature.soft[1] <= feature.hard[1]
        assert feature.warmup_bars == 0 or feature.warmup_sessions >= 1


def test_the_frame_has_keys_and_float32_columns_in_registry_order(rough, compute):
    found = compute(*rough)
    assert found.columns == ["ts", "contract", "session", *FEATURE_NAMES]
    assert found.schema.dtypes()[3:] == [pl.Float32] * len(FEATURE_NAMES)
    assert found.select("ts", "contract", "session").equals(rough.bars.select("ts", "contract", "session"))
    assert found.null_count().select(pl.sum_horizontal(pl.all())).item() == 0


def test_no_bars_give_an_empty_frame_of_the_same_schema(rough, compute):
    empty = compute(rough.bars.head(0), rough.vix)
    assert empty.is_empty()
    assert empty.schema == compute(*rough).schema


def test_warm_up_is_the_longest_of_the_named_features():
    assert warmup_sessions(()) == 0
    assert warmup_sessions(TOP5_FEATURES) == 5
    assert warmup_sessions(("close_change_pct", "vpoc_prev_dist")) == 14
    assert warmup_sessions(FEATURE_NAMES) == 22


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_no_nan_after_the_warm_up_even_where_the_first_sessions_are_thin(name, rough, compute):
    found = compute(*rough)
    warm = in_warmup(found, [name])
    untraded = rough.bars.select(pl.col("volume").cum_sum().over("session") == 0).to_series()
    developing = {"vpoc_dev_dist", "vah_dev_dist", "val_dev_dist", "va_pos_dev", "va_width_dev"}
    missing = found[name].is_nan() & ~warm
    assert missing.to_list() == ((untraded & ~warm).to_list() if name in developing else [False] * found.height)
    assert warm.sum() < found.height


def test_frames_that_do_not_belong_together_are_rejected(rough, es):
    bars, vix = rough
    daily, levels = build_sessions(bars, es, ProfileConfig()), build_developing(bars, es, ProfileConfig())
    other = daily.with_columns(pl.lit("ESM25").alias("contract"))
    first = int((bars["session"] == daily["session"][0]).sum())
    two = bars.with_columns(pl.Series("contract", ["ESH25"] * 500 + ["ESM25"] * (bars.height - 500)))
    for broken, message in (
        ((bars, daily.head(20), levels), f"none of {daily['session'][20]}"),
        ((bars.slice(first), daily, levels.slice(first)), f"one without bars, {daily['session'][0]}"),
        ((bars, pl.concat([daily.head(1), daily]), levels), "rows twice"),
        ((bars, daily, levels.head(100)), "one row for each bar"),
        ((bars, other, levels), "ESM25"),
        ((two, daily, levels), "one contract"),
        ((bars.reverse(), daily, levels.reverse()), "sorted by time"),
    ):
        with pytest.raises(ArtifactError, match=message):
            build_features(*broken, vix, es)


@pytest.mark.real
def test_real_features_are_finite_after_the_warm_up_and_within_hard_bounds(real, real_features):
    assert real_features.height == real.bars.height
    for name, feature in REGISTRY.items():
        sessions = real_features["session"].rle_id()
        values = real_features[name].filter(sessions >= warmup_sessions([name])).to_numpy()
        assert np.isfinite(values).all(), name
        assert feature.hard[0] <= values.min() <= values.max() <= feature.hard[1], name
        outside = np.mean((values < feature.soft[0]) | (values > feature.soft[1]))
        assert outside < 0.01, (name, outside)


@pytest.mark.real
def test_data_that_begins_late_in_a_session_stays_within_the_declared_warm_up(real, compute):
    late = compute(real.bars.slice(950).head(40_000), real.vix)
    sessions = late["session"].rle_id()
    assert (sessions == 0).sum() == 17
    for name in FEATURE_NAMES:
        assert not late[name].filter(sessions >= warmup_sessions([name])).is_nan().any(), name


@pytest.mark.real
def test_no_real_feature_is_constant_or_a_copy_of_another(real_features):
    values = (
        real_features.filter(real_features["session"].rle_id() >= warmup_sessions(FEATURE_NAMES))
        .select(FEATURE_NAMES)
        .to_numpy()
    )
    correlation = np.corrcoef(values, rowvar=False)
    assert np.isfinite(correlation).all()
    for one, other in itertools.combinations(range(len(FEATURE_NAMES)), 2):
        assert abs(correlation[one, other]) < 0.999, (FEATURE_NAMES[one], FEATURE_NAMES[other])
