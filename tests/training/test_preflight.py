"""The preflight names each kind of odd column, and counts rows."""

from __future__ import annotations

import logging
import math

import numpy as np
import polars as pl
import pytest
import torch

from vpoc_ml.artifacts.feature_statistics import read_feature_statistics
from vpoc_ml.artifacts.training_result import ColumnReport
from vpoc_ml.models.guard import Guard
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop import data
from vpoc_ml.training.loop.data import column_problems, preflight

RNG = np.random.default_rng(1)
GOOD = RNG.normal(size=10_000)


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        (GOOD, []),
        (GOOD * 1e4 - 5e4, ["beyond float16"]),
        (np.full(100, 3.0), ["constant 3"]),
        (np.array([]), ["no finite value"]),
        (np.where(RNG.uniform(size=10_000) < 0.1, GOOD, 0.0), ["interquartile range 0"]),
        (np.where(RNG.uniform(size=10_000) < 0.003, 1e9 * GOOD, GOOD), ["over 1e8", "beyond float16"]),
        (1e-12 * GOOD, []),
    ],
)
def test_each_kind_of_odd_column_is_named(values, problems):
    found = column_problems(values)
    assert len(found) == len(problems)
    assert all(part in text for part, text in zip(problems, found, strict=True))


def test_rows_are_counted_not_batches_and_the_batch_share_is_stated(caplog):
    a, b = GOOD.copy(), GOOD.copy()
    a[:131], b[100:131] = math.nan, math.inf  # 1.31 % of the rows, some of them twice
    target = np.where(np.arange(10_000) < 20, np.float32(math.nan), np.float32(0.5))
    with caplog.at_level(logging.WARNING):
        found = preflight(np.stack([a, b], axis=1, dtype=np.float32), target, ["a", "b"], 64)
    assert (found.nonfinite_rows, found.unlabelled_rows) == (131, 20)
    assert found.nonfinite_batch_share == pytest.approx(0.57, abs=0.005)
    assert found.columns["a"] == ColumnReport(nonfinite_share=0.0131, problems=())
    assert caplog.text.count("preflight: ") == 2


def test_the_result_of_a_job_has_it(tiny, make_run):
    run = make_run(tiny, training__epochs=1)
    found = train_run(run).preflight
    assert (found.rows, found.nonfinite_rows) == (2800, 0)
    assert set(found.columns) == {"f4"}, "only the column of 1e6 is beyond float16"
    assert "preflight: f4" in (run / "training_log.txt").read_text()


def test_rows_read_in_parts_are_those_of_the_file(tiny, make_run, monkeypatch):
    run = make_run(tiny)
    stored = pl.read_parquet(run / "training_set.parquet")
    stored = stored.with_columns(f0=pl.when(pl.int_range(pl.len()) != 5).then("f0"), weight=pl.lit(1.0, pl.Float32))
    stored.write_parquet(run / "training_set.parquet", row_group_size=700)
    statistics = read_feature_statistics(run)
    guard = Guard(statistics.median, statistics.scale, 6.0)
    monkeypatch.setattr(data, "READ_ROWS", 999)
    monkeypatch.setattr(data, "GUARD_ROWS", 300)
    found = data.load(run, statistics, guard, torch.device("cpu"))
    for split, rows in (("train", found.train), ("validation", found.validation)):
        part = stored.filter(split=split)
        expected = guard(torch.from_numpy(part.select(statistics.features).cast(pl.Float32).to_numpy(writable=True)))
        assert torch.equal(rows.inputs, expected)
        assert rows.target.tolist() == part["y"].to_list()
    assert found.preflight.nonfinite_rows == 1
    refit = data.load(run, statistics, guard, torch.device("cpu"), refit=True)
    assert torch.equal(refit.train.inputs, found.train.inputs)
    assert torch.equal(refit.validation.inputs, found.train.inputs), "fewer rows than the monitor reads"
