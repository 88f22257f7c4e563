"""Planted faults are named and no other; slow features and a stationary market do not alarm."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import MonitoringConfig
from vpoc_ml.monitoring.limits import distance_limits
from vpoc_ml.monitoring.reference import build_reference, measure
from vpoc_ml.quality.gates import validate_monitoring
from vpoc_ml.quality.rules.monitoring_gate import SEVERITIES, Distance, Facts

SESSIONS, MINUTES, BLOCK = 160, 60, 5
NOW = datetime(2026, 5, 15, 22, 30, tzinfo=UTC)
CONFIG = MonitoringConfig()
FEATURES = ("fast", "slow", "level", "flag")


def market(seed, sessions):
    """A fast feature, a slow one whose half-life is a week, a level that hardly moves in a session, a flag."""
    draw = np.random.default_rng(seed)
    slow = np.zeros(sessions)
    for day in range(1, sessions):
        slow[day] = 0.87 * slow[day - 1] + 0.5 * draw.standard_normal()
    per_row = np.repeat(slow, MINUTES)
    size = sessions * MINUTES
    return pl.DataFrame(
        {
            "session": [date(2025, 1, 1) + timedelta(days=row // MINUTES) for row in range(size)],
            "split": "train",
            "fast": draw.standard_t(4, size).astype(np.float32),
            "slow": (per_row + 0.3 * draw.standard_normal(size)).astype(np.float32),
            "level": (20 * np.exp(0.2 * per_row)).astype(np.float32),
            "flag": (draw.random(size) < 0.3).astype(np.float32),
            "ret": 1e-4 * draw.standard_t(4, size),
        }
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The reference of the first sessions and the rows of the block after them."""
    frame = market(7, SESSIONS + BLOCK)
    path = tmp_path_factory.mktemp("monitoring") / "training_set.parquet"
    frame[: SESSIONS * MINUTES].write_parquet(path)
    return build_reference(path, FEATURES, BLOCK), frame[SESSIONS * MINUTES :]


def distances(reference, block, config=CONFIG):
    return tuple(
        Distance(column.name, name, value, distance_limits(column, name, config))
        for column in (*reference.features, reference.label)
        for name, value in measure(column, block[column.name].cast(pl.Float64).to_numpy()).items()
    )


def verdict(folder, facts, config=CONFIG):
    return validate_monitoring(facts, ["ESM26"], run="night", reports_dir=folder, now=NOW, config=config)


def failures(folder, reference, block):
    found = verdict(folder, Facts(0, distances=distances(reference, block), has_reference=True))
    return {(each.column, each.check): each.severity for each in found.failures}


def test_the_reference_counts_every_training_row(world):
    reference, _ = world
    assert (reference.block_count, reference.block_sessions) == (SESSIONS // BLOCK, BLOCK)
    for column in (*reference.features, reference.label):
        assert sum(column.counts) == column.rows == SESSIONS * MINUTES
        assert column.counts[0] == column.counts[-1] == 0
        assert len(column.blocks["psi"]) == reference.block_count
    assert set(reference.label.blocks) == {"psi", "ks", "missing", "mean", "scale", "up"}


def test_the_block_after_a_stationary_history_passes_though_slow_features_exceed_the_textbook(world, tmp_path):
    reference, block = world
    assert failures(tmp_path, reference, block) == {}
    level = next(each for each in distances(reference, block) if (each.column, each.name) == ("level", "psi"))
    assert level.value > 0.25


def test_a_planted_drift_names_its_feature_and_no_other(world, tmp_path):
    reference, block = world
    moved = block.with_columns(pl.col("fast") + 1.5)
    found = failures(tmp_path, reference, moved)
    assert found == {("fast", "psi"): "critical", ("fast", "ks"): "critical"}


def test_planted_missing_values_name_their_feature(world, tmp_path):
    reference, block = world
    holes = block.with_columns(flag=pl.when(pl.int_range(pl.len()) % 10 == 0).then(np.nan).otherwise("flag"))
    assert failures(tmp_path, reference, holes) == {("flag", "missing"): "critical"}


def test_a_planted_shift_of_the_label_is_named(world, tmp_path):
    reference, block = world
    found = failures(tmp_path, reference, block.with_columns(ret=4 * pl.col("ret")))
    assert found[("ret", "scale")] == "critical"
    assert {column for column, _ in found} == {"ret"}
    trend = failures(tmp_path, reference, block.with_columns(ret=pl.col("ret") + 1e-4))
    assert trend[("ret", "mean")] == "warning"


def test_a_slow_feature_that_leaves_the_training_range_is_an_error(world, tmp_path):
    reference, block = world
    found = failures(tmp_path, reference, block.with_columns(pl.col("level") * 10))
    assert found[("level", "psi")] == "critical"


def test_few_blocks_never_make_an_error(world):
    reference, _ = world
    few = reference.features[0].model_copy(update={"blocks": {"psi": (0.01,) * 29}})
    assert distance_limits(few, "psi", CONFIG).error is None
    more = few.model_copy(update={"blocks": {"psi": (0.01,) * 29 + (0.4,)}})
    assert distance_limits(more, "psi", CONFIG).error == pytest.approx(0.7)


def test_late_data_warn_and_a_refused_score_is_an_error(tmp_path):
    late = verdict(tmp_path, Facts(1))
    assert (late.passed, [each.check for each in late.failures]) == (True, ["late"])
    assert not verdict(tmp_path, Facts(900, allowed_late=10_000)).failures
    refused = verdict(tmp_path, Facts(0, has_reference=True, refused="not scored: the VIX is old"))
    assert not refused.passed
    assert refused.failures[0].note == "not scored: the VIX is old"


def test_without_a_champion_only_the_age_of_the_bars_is_checked(tmp_path):
    found = verdict(tmp_path, Facts(0))
    assert (found.passed, found.checks, found.failures) == (True, 1, ())


@pytest.mark.parametrize(
    ("fading", "coverage", "severities"),
    [(5.0, 0.9, []), (5.6, 0.84, ["warning", "warning"]), (8.0, 0.7, ["critical", "critical"])],
)
def test_live_skill_and_coverage_enter_the_verdict(tmp_path, fading, coverage, severities):
    facts = Facts(0, has_reference=True, fading=(fading, 5.52), coverage=(coverage, 0.9))
    assert [each.severity for each in verdict(tmp_path, facts).failures] == severities


def test_severities_and_changed_settings_are_stated(tmp_path):
    found = verdict(tmp_path, Facts(0), CONFIG.model_copy(update={"psi_floor": 0.5}))
    assert found.changed_thresholds == ("psi_floor=0.5 (usually 0.25)",)
    assert all(levels.reason and (levels.warns or levels.fails) for levels in SEVERITIES.values())
