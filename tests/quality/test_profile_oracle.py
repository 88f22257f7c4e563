"""The streaming profile against an obvious oracle, for files with every kind of bad value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpoc_ml.quality.measure import Column, RowRule, profile_frame

START = datetime(2025, 1, 6, tzinfo=UTC)
VALUES = st.sampled_from([0.0, 1.0, -1.0, 2.5, -7.0, 9.0, 1e30, float("nan"), float("inf"), float("-inf"), None])


def frame_of(values, dtype=pl.Float64):
    return pl.DataFrame(
        {
            "ts": pl.Series([START + timedelta(minutes=n) for n in range(len(values))], dtype=pl.Datetime("us", "UTC")),
            "session": [START.date() + timedelta(days=n // 4) for n in range(len(values))],
            "x": pl.Series(values, dtype=dtype),
        },
        schema_overrides={"session": pl.Date},
    )


def oracle(values, low, high):
    """Count defects with a plain loop."""
    floats = [None if v is None else float(v) for v in values]
    finite = [v for v in floats if v is not None and np.isfinite(v)]
    median = float(np.median(finite)) if finite else 0.0
    mad = float(np.median(np.abs(np.array(finite) - median))) if finite else 0.0
    return {
        "null": sum(v is None for v in floats),
        "nan": sum(v is not None and np.isnan(v) for v in floats),
        "pos_inf": floats.count(float("inf")),
        "neg_inf": floats.count(float("-inf")),
        "below": sum(v < low for v in finite),
        "above": sum(v > high for v in finite),
        "beyond": sum(abs(v - median) > 5 * mad for v in finite) if mad > 0 else 0,
        "min": min(finite, default=None),
        "max": max(finite, default=None),
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(VALUES, max_size=40))
def test_every_count_equals_the_oracle(values):
    frame = frame_of(values)
    profile = profile_frame(frame, "ESH25", [Column("x", pl.Float64(), hard=(-2.0, 5.0))])
    row = profile.frame.row(0, named=True)
    expected = oracle(values, -2.0, 5.0)
    assert {name: row[name] for name in expected} == expected
    measurements = {t.check: t for t in profile.measurements}
    assert measurements["outside"].count == expected["below"] + expected["above"]
    assert measurements["infinite"].count == expected["pos_inf"] + expected["neg_inf"]
    assert measurements["late"].count == expected["null"] + expected["nan"]
    bad = [v is not None and np.isinf(v) for v in values]
    assert measurements["infinite"].first == tuple(frame["ts"].filter(pl.Series(bad, dtype=pl.Boolean)).head(3))


def test_mean_and_std_leave_non_finite_values_out():
    values = [1.0, 2.0, float("inf"), 4.0, float("nan"), None]
    row = profile_frame(frame_of(values), "ESH25", [Column("x", pl.Float64())]).frame.row(0, named=True)
    assert row["mean"] == pytest.approx(7 / 3)
    assert row["std"] == pytest.approx(np.std([1, 2, 4], ddof=1))


def test_file_and_frame_give_the_same_profile_for_any_row_groups(tmp_path):
    rng = np.random.default_rng(3)
    values = rng.normal(size=100_000)
    values[[5, 70_000]] = [np.nan, np.inf]
    frame = frame_of(values)
    columns, rules = [Column("x", pl.Float64(), hard=(-1.0, np.inf))], [RowRule("big", "x", pl.col("x") > 3)]
    expected = profile_frame(frame, "ESH25", columns, rules)
    for size in (1_000, 33_333):
        frame.write_parquet(tmp_path / "x.parquet", row_group_size=size)
        again = profile_frame(pl.scan_parquet(tmp_path / "x.parquet"), "ESH25", columns, rules)
        assert repr(again.measurements) == repr(expected.measurements)


def test_sampled_median_moves_the_outlier_share_little():
    values = np.random.default_rng(4).standard_t(4, 160_000)
    profile = profile_frame(frame_of(values), "ESH25", [Column("x", pl.Float64())])
    median = np.median(values)
    exact = np.mean(np.abs(values - median) > 5 * np.median(np.abs(values - median)))
    assert profile.frame["sampled"].item() == 10_000
    assert profile.frame["beyond"].item() / values.size == pytest.approx(exact, abs=1e-3)


def test_integers_and_flags_have_no_nan_and_no_outliers():
    frame = frame_of([0, 1, 0, 0, 0, 1, 0], pl.Int64)
    row = profile_frame(frame, "ESH25", [Column("x", pl.Int64(), hard=(0.0, np.inf))]).frame.row(0, named=True)
    assert (row["nan"], row["beyond"], row["mad"], row["below"]) == (0, 0, 0.0, 0)
