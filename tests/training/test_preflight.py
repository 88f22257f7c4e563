"""The preflight names each kind of odd column, and counts rows."""

from __future__ import annotations

import logging
import math

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.training_result import ColumnReport
from vpoc_ml.training.launch.job import train_run
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
    frame = pl.DataFrame({"a": a, "b": b, "y": np.where(np.arange(10_000) < 20, math.nan, 0.5)})
    with caplog.at_level(logging.WARNING):
        found = preflight(frame, ["a", "b"], "y", 64)
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
