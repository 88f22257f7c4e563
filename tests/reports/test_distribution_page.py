"""The page of a column compares nights, contracts, and train with validation."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import Verdict
from vpoc_ml.artifacts.schemas import COLUMN_PROFILE, DISTRIBUTIONS
from vpoc_ml.lake.store import Lake
from vpoc_ml.quality import history
from vpoc_ml.quality.checks import Check, GateInput
from vpoc_ml.reports.pages.distribution import DistributionQuery, distribution_page, own_feature, rebinned
from vpoc_ml.reports.site import NoSuchPageError, Site

START = datetime(2026, 5, 4, 22, 30, tzinfo=UTC)


def store_night(root, number, median):
    run, names = f"night-{number}", {name: [None] for name in COLUMN_PROFILE}
    counts = {name: [10] for name in ("rows", "null", "nan")}
    numbers = {"median": [median], "mad": [2.0], "min": [0.0], "max": [9.0], "mean": [5.0], "std": [1.0]}
    row = names | counts | numbers | {"contract": ["ESM26"], "column": ["rv_30"], "dtype": ["Float32"]}
    profile = pl.DataFrame(row, schema=COLUMN_PROFILE)
    verdict = Verdict(gate="features", run=run, contracts=("ESM26",), checks=1, failures=(), report="")
    given = GateInput("features", ("ESM26",), [Check("late", "rv_30", "values")], (), [profile])
    history.store(root / "reports", verdict, given, {}, now=START + timedelta(days=number))
    bins = [
        ("rv_30", stage, split, 100, 3, 0.0, 4.0, counts, 2.0, 1.0)
        for stage in ("raw", "scaled")
        for split, counts in (("train", [10, 20, 30, 40]), ("validation", [40, 30, 20, 10]))
    ]
    frame = pl.DataFrame(bins, schema=DISTRIBUTIONS, orient="row")
    history.write_table(root / "reports", layout.DISTRIBUTIONS, "training-set", run, frame)


def test_counts_move_into_other_bins_without_loss():
    row = {"low": 0.0, "high": 4.0, "counts": [10, 20, 30, 40]}
    assert rebinned(row, np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist() == [10, 20, 30, 40]
    assert rebinned(row, np.array([1.5, 2.5, 3.5])).tolist() == [45, 55]  # 10 + 20 + 15, the rest
    assert rebinned(row, np.array([5.0, 6.0, 7.0])).tolist() == [100, 0]


def test_page_compares_with_the_night_before_and_both_splits(tmp_path):
    site = Site(Lake(tmp_path), START, base="/air")
    for number, median in enumerate((4.0, 5.0)):
        store_night(tmp_path, number, median)
    page = distribution_page(site, DistributionQuery(run="night-1", column="rv_30"))
    assert "<code>night-0</code>" in page
    assert "<td>5</td><td>9</td><td>2</td>" in page  # median, max, MAD
    assert "<td>4</td><td>2</td><td>0.5</td>" in page  # reference median and MAD, shift
    assert page.count("train (line), validation (dashes), train of the reference night (dots)") >= 2
    assert "100 sqrt(1380 mean r^2)" in page
    assert '<th scope="row">0.5</th><td>10.0</td><td>40.0</td><td>10.0</td>' in page
    alone = distribution_page(site, DistributionQuery(run="night-0", column="rv_30"))
    assert "Reference night" not in alone
    with pytest.raises(NoSuchPageError, match="a column that a gate"):
        distribution_page(site, DistributionQuery(run="night-1", column="absent"))


def test_page_shows_the_formula_of_an_own_feature_without_its_plugin(tmp_path):
    store_night(tmp_path, 0, 4.0)
    own = {"name": "rv_30", "family": "mine", "formula": "a formula of mine", "unit": "bp", "soft": None}
    Lake(tmp_path).write_json("runs/night-0/own_features.json", {"features": [own]})
    site = Site(Lake(tmp_path), START, base="/air")
    assert own_feature(site, "night-0", "absent") is None
    assert own_feature(site, "night-0", "rv_30").formula == "a formula of mine"
    assert own_feature(site, "night-1", "rv_30") is None
