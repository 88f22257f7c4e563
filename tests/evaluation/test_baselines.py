"""Baselines know the training rows and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.fitted_baselines import FittedBaselines
from vpoc_ml.evaluation import baselines


def frame(ret, y, last_ret) -> pl.DataFrame:
    content = {"ret": ret, "y": y, "last_ret": last_ret, "a": 0.0}
    return pl.DataFrame(content, schema_overrides={"ret": pl.Float64})


def forecast_of(name, train, test, zero_rank):
    found = baselines.forecasts(baselines.fit_baselines(train, train, ["a"], zero_rank), test)
    assert tuple(each.name for each in found) == baselines.BASELINES
    return next(each for each in found if each.name == name)


def ridge_ranks(train, validation, test, features):
    return baselines.predict_ridge(baselines.fit_ridge_baseline(train, validation, features), test)


TRAIN = frame([1.0, 2.0, -1.0, 0.0, 3.0], [0.5, 0.7, 0.1, 0.3, 0.9], [1.0, -1.0, 1.0, 0.0, -2.0])
TEST = frame([0.0] * 4, [0.0] * 4, [-3.0, 0.0, 5.0, float("nan")])


def test_constant_is_the_training_mean():
    forecast = forecast_of("constant", TRAIN, TEST, 0.25)
    assert forecast.rank.tolist() == pytest.approx([0.5] * 4)
    assert forecast.direction.tolist() == [1.0] * 4


@pytest.mark.parametrize(("flip", "direction"), [(1, 1.0), (-1, -1.0)])
def test_majority_follows_the_larger_class_whatever_the_size_of_the_moves(flip, direction):
    train = TRAIN.with_columns(ret=flip * pl.Series([0.1, 0.1, -50.0, 0.0, 0.1]))
    forecast = forecast_of("majority", train, TEST, 0.4)
    assert forecast.direction.tolist() == [direction] * 4
    assert forecast.direction_only


def test_last_sign_predicts_what_followed_that_sign():
    forecast = forecast_of("last_sign", TRAIN, TEST, 0.5)
    assert forecast.rank.tolist() == pytest.approx([0.8, 0.3, 0.3, 0.3])


def test_last_sign_follows_or_fades_the_sign_and_never_says_one_direction_for_all():
    train = frame([0.0] * 4, [0.51, 0.52, 0.58, 0.57], [0.1, 0.2, -0.1, -0.3])
    forecast = forecast_of("last_sign", train, frame([0.0] * 2, [0.0] * 2, [0.4, -0.4]), 0.5)
    assert forecast.direction.tolist() == [-1.0, 1.0], "after a rise less follows than after a fall: fade it"


def test_last_sign_never_seen_gets_the_mean():
    forecast = forecast_of("last_sign", TRAIN.filter(pl.col("last_ret") != 0), TEST, 0.5)
    assert forecast.rank[1] == pytest.approx((0.5 + 0.7 + 0.1 + 0.9) / 4)


def ridge_frames(rng, n=3000):
    x = rng.standard_normal((n, 2))
    part = pl.DataFrame({"a": x[:, 0], "b": 1e6 * x[:, 1], "flat": np.zeros(n), "y": 0.5 + 0.1 * np.arcsinh(x[:, 0])})
    return part[:1000], part[1000:2000], part[2000:]


def test_ridge_finds_a_linear_signal_among_columns_of_any_scale():
    train, validation, test = ridge_frames(np.random.default_rng(1))
    ranks = ridge_ranks(train, validation, test, ["a", "b", "flat"])
    assert np.corrcoef(ranks, test["y"])[0, 1] > 0.99


def test_ridge_survives_values_that_are_not_finite():
    train, validation, test = ridge_frames(np.random.default_rng(1))
    broken = [
        part.with_columns(b=pl.when(pl.int_range(pl.len()) % 7 == 0).then(float("inf")).otherwise("b"))
        for part in (train, validation, test)
    ]
    assert np.isfinite(ridge_ranks(*broken, ["a", "b", "flat"])).all()


def test_ridge_does_not_see_the_test_rows():
    train, validation, test = ridge_frames(np.random.default_rng(1))
    alone = ridge_ranks(train, validation, test[:10], ["a", "b"])
    shifted = test.with_columns(y=pl.lit(0.0), a=pl.when(pl.int_range(pl.len()) < 10).then("a").otherwise(1e9))
    assert ridge_ranks(train, validation, shifted, ["a", "b"])[:10] == pytest.approx(alone)


def test_stored_baselines_predict_the_same_numbers():
    train, validation, test = (
        part.with_columns(ret=pl.col("y") - 0.5, last_ret=-pl.col("a"))
        for part in ridge_frames(np.random.default_rng(1))
    )
    fitted = baselines.fit_baselines(train, validation, ["a", "b"], 0.5, trees=True)
    stored = FittedBaselines.model_validate_json(fitted.model_dump_json())
    for now, later in zip(baselines.forecasts(fitted, test), baselines.forecasts(stored, test), strict=True):
        assert np.array_equal(now.rank, later.rank)
        assert now.zero_rank == later.zero_rank


def test_trees_are_a_baseline_where_the_model_has_none():
    rng = np.random.default_rng(2)
    frame = pl.DataFrame(rng.uniform(-3, 3, (9000, 2)), schema=["a", "b"]).with_columns(last_ret=pl.lit(0.0))
    frame = frame.with_columns(y=0.5 + 0.2 * (pl.col("a").abs() - 1.5), ret=pl.col("a").abs() - 1.5)
    train, validation, test = frame[:5000], frame[5000:7000], frame[7000:]
    fitted = baselines.fit_baselines(train, validation, ["a", "b"], 0.5, trees=True)
    found = {each.name: each for each in baselines.forecasts(fitted, test)}
    assert tuple(found) == (*baselines.BASELINES, "lightgbm")
    assert np.corrcoef(found["lightgbm"].rank, test["y"])[0, 1] > 0.9, "a signal that ridge cannot see"
    assert abs(np.corrcoef(found["ridge"].rank, test["y"])[0, 1]) < 0.1
    changed = test.with_columns(y=pl.lit(0.0), ret=pl.lit(0.0))
    assert np.array_equal(baselines.forecasts(fitted, changed)[-1].rank, found["lightgbm"].rank)


def test_columns_read_from_a_training_set_give_the_same_baselines(tmp_path):
    rng = np.random.default_rng(4)
    frame = pl.DataFrame(rng.standard_normal((90, 5)), schema=["ret", "y", "last_ret", "a", "b"])
    keys = {"split": ["train"] * 60 + ["validation"] * 30, "weight": (rng.random(90) < 0.8).astype(np.float32)}
    frame = frame.with_columns(**{name: pl.Series(values) for name, values in keys.items()})
    frame.write_parquet(tmp_path / "training_set.parquet", row_group_size=25)
    parts = ("train", "validation")
    stored = [baselines.StoredRows(tmp_path / "training_set.parquet", part) for part in parts]
    read = [frame.filter(pl.col("weight") == 1, pl.col("split") == part) for part in parts]
    assert [part.height for part in stored] == [part.height for part in read]
    assert baselines.fit_baselines(*stored, ["a", "b"], 0.5) == baselines.fit_baselines(*read, ["a", "b"], 0.5)
