"""The kept distributions count every labelled row of both splits, before and after the run's own scaling."""

import numpy as np
import polars as pl

from vpoc_ml.analysis.split_distributions import split_distributions
from vpoc_ml.artifacts.schemas import DISTRIBUTIONS


def test_every_labelled_row_counts_once_in_bins_of_the_training_rows(made):
    found = split_distributions(made.view, 6.0)
    assert found.schema == pl.Schema(DISTRIBUTIONS)
    assert found.height == len(made.view.features) * 2 * 2
    rows = made.frame.filter(weight=1.0)
    for split in ("train", "validation"):
        own = rows.filter(split=split)["rv_30"].to_numpy().astype(np.float64)
        kept = found.filter(column="rv_30", stage="raw", split=split).row(0, named=True)
        assert kept["rows"] == own.size
        assert kept["missing"] == np.isnan(own).sum() > 0
        assert sum(kept["counts"]) == own.size - kept["missing"]
        assert np.isclose(kept["mean"], np.nanmean(own))
    train = rows.filter(split="train")["rv_30"].drop_nans().to_numpy().astype(np.float64)
    assert np.allclose((kept["low"], kept["high"]), np.quantile(train, (0.001, 0.999)))


def test_scaled_values_are_those_that_the_network_receives(made):
    found = split_distributions(made.view, 0.5).filter(column="vwap", stage="scaled", split="train").row(0, named=True)
    raw = made.frame.filter(split="train", weight=1.0)["vwap"].to_numpy().astype(np.float64)
    assert np.isclose(found["mean"], made.view.guarded("vwap", raw, 0.5).mean())
    assert (found["low"], found["high"]) == (-0.5, 0.5)  # the guard clips both ends
    assert found["missing"] == 0


def test_a_sample_and_a_feature_without_values(make_run, made):
    empty = make_run(made.frame.with_columns(dow=pl.lit(float("nan"), pl.Float32)))
    found = split_distributions(empty.view, 6.0, rows=600)
    assert found.filter(column="dow", stage="raw", split="train").row(0)[5:] == (None,) * 5
    assert 200 < found.filter(column="vwap", stage="raw", split="train")["rows"].item() < 600
