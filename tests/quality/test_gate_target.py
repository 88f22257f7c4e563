"""Gate ``training-set`` on a set whose target is not the rank."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.config import DatasetConfig

RETURN = DatasetConfig(target="return")


def with_target(frame: pl.DataFrame) -> pl.DataFrame:
    values = (0.5 + 10_000 * frame["ret"]).cast(pl.Float32).alias("target")
    return frame.insert_column(frame.columns.index("last_ret") + 1, values)


def failures(verdict) -> list[tuple[str, str]]:
    return [(each.check, each.column) for each in verdict.failures]


def test_a_finite_target_outside_the_unit_interval_passes(world, validated):
    frame = with_target(world.training.clone())
    assert not frame.filter(pl.col("weight") == 1)["target"].is_between(0, 1).all()
    verdict = validated("training-set", frame, dataset=RETURN)
    assert verdict.passed, verdict.message()


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (pl.when(pl.int_range(pl.len()) == 40).then(float("nan")).otherwise(pl.col("target")), "finite"),
        (pl.lit(0.5, pl.Float32), "constant"),
    ],
)
def test_a_target_that_is_missing_or_does_not_vary_fails(world, validated, fault, named):
    frame = with_target(world.training.clone()).with_columns(target=fault)
    assert (named, "target") in failures(validated("training-set", frame, dataset=RETURN))


def test_a_set_without_the_chosen_target_fails(world, validated):
    assert ("schema", "target") in failures(validated("training-set", world.training, dataset=RETURN))
