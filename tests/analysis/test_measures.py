"""Distribution, clusters, drift and scaling against slow or hand-made answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from vpoc_ml.analysis.analyze import cluster, spearman
from vpoc_ml.analysis.distribution import describe, drift, extremes, histogram, psi, scaler_effects
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.scalers import KINDS


def test_moments_of_a_small_sample():
    found = describe(np.array([1.0, 1.0, 1.0, 5.0, np.nan]))
    assert (found["rows"], found["nonfinite"], found["mean"], found["min"], found["max"]) == (5, 1, 2.0, 1.0, 5.0)
    assert found["sd"] == pytest.approx(math.sqrt(3))
    assert found["skewness"] == pytest.approx(2 / math.sqrt(3))
    assert found["kurtosis"] == pytest.approx(7 / 3 - 3)


@pytest.mark.parametrize(("values", "mean"), [(np.full(9, 3.5), 3.5), (np.full(4, np.nan), None), (np.zeros(0), None)])
def test_nothing_to_describe_is_no_error(values, mean):
    found = describe(values)
    assert (found["rows"], found["mean"]) == (values.size, mean)


@given(arrays(np.float64, st.integers(5, 60), elements=st.integers(-50, 50).map(float)))
@settings(max_examples=40, deadline=None)
def test_moments_are_scipys(values):
    found = describe(values)
    if np.ptp(values) > 0:
        assert found["skewness"] == pytest.approx(stats.skew(values), abs=1e-9)
        assert found["kurtosis"] == pytest.approx(stats.kurtosis(values), abs=1e-9)
    assert sum(found["histogram"]["counts"]) == values.size


def test_histogram_keeps_outliers_in_its_outer_bins():
    assert histogram(np.array([-100.0, 0.5, 1.5, 1.6, 99.0]), 0, 2, 2)["counts"] == [2, 3]


def test_extremes_count_rows_beyond_each_reach():
    values = np.array([0.0, 3.1, -5.5, 11.0, -21.0, np.inf, np.nan, 3.0])
    assert extremes(values * 2 + 7, 7.0, 2.0) == pytest.approx({"3": 4 / 6, "5": 3 / 6, "10": 2 / 6, "20": 1 / 6})


def test_correlation_is_spearmans(made):
    view = made.view
    train = view.mask("train")
    pair = [view.column(name)[train] for name in ("close_change_pct", "mom_15m")]
    rho = spearman(view)
    assert rho[0, 1] == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-6)
    assert np.array_equal(rho, rho.T)
    assert np.allclose(rho[5], [0, 0, 0, 0, 0, 1])  # a constant correlates with nothing


def test_thinned_rows_still_show_who_is_alike(made):
    assert spearman(made.view, rows=500)[0, 1] == pytest.approx(spearman(made.view)[0, 1], abs=0.03)


def test_alike_features_form_one_cluster(made):
    view = made.view
    found = cluster(view.features, spearman(view))
    assert sorted(found["order"]) == sorted(view.features)
    members = [group["members"] for group in found["groups"]]
    assert [name for group in members for name in group] == found["order"]
    assert [sorted(group) for group in members if len(group) > 1] == [["close_change_pct", "mom_15m"]]
    assert next(group["weakest"] for group in found["groups"] if len(group["members"]) > 1) > 0.9


def test_opposites_are_alike_and_the_matrix_follows_the_order():
    rho = np.array([[1, 0.1, -0.9], [0.1, 1, 0.0], [-0.9, 0.0, 1]])
    found = cluster(["a", "b", "c"], rho)
    place = {name: at for at, name in enumerate("abc")}
    chosen = [place[name] for name in found["order"]]
    assert found["rho"] == rho[np.ix_(chosen, chosen)].tolist()
    assert {frozenset(group["members"]) for group in found["groups"]} == {frozenset("ac"), frozenset("b")}
    assert cluster(["a"], np.ones((1, 1)))["groups"] == [{"members": ["a"], "weakest": 1.0}]


def test_psi_by_hand():
    own, others = np.array([9, 0]), np.array([4, 5])
    p, q = (9.5 / 10, 0.5 / 10), (4.5 / 10, 5.5 / 10)
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert psi(own, others) == pytest.approx(expected)
    assert psi(others, own) == pytest.approx(expected)
    assert psi(own, own) == 0


def test_drift_compares_each_contract_with_the_others():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1, 400), rng.normal(0, 1, 300), rng.normal(2, 1, 300)])
    values[5] = np.nan
    which = np.repeat([0, 1, 2], [400, 300, 300])
    found = drift(values, which, ["a", "b", "c"], 0.5)
    edges = np.nanquantile(values, np.arange(1, 10) / 10)
    for at, code in enumerate("abc"):
        own, others = (values[rows & np.isfinite(values)] for rows in (which == at, which != at))
        bins = list(zip([-np.inf, *edges], [*edges, np.inf], strict=True))
        counts = [np.array([((x > low) & (x <= high)).sum() for low, high in bins]) for x in (own, others)]
        assert found[code]["psi"] == pytest.approx(psi(*counts))
        assert found[code]["shift"] == pytest.approx((own.mean() - others.mean()) / 0.5)
        assert found[code]["rows"] == own.size
    assert found["c"]["psi"] > 2 * found["a"]["psi"]


def test_no_other_contract_or_no_value_is_no_drift():
    assert drift(np.ones(5), np.zeros(5, np.int64), ["a"], 1.0) == {"a": {"rows": 5, "psi": None, "shift": None}}
    nothing = drift(np.full(4, np.nan), np.array([0, 0, 1, 1]), ["a", "b"], 1.0)
    assert nothing["b"] == {"rows": 0, "psi": None, "shift": None}


def test_scalers_show_what_they_do_to_the_tails(made):
    found = scaler_effects(made.view, DatasetConfig(scaler="winsor"))
    assert list(found) == ["none", *KINDS]
    assert [kind for kind, one in found.items() if one["chosen"]] == ["winsor"]
    raw = made.view.column("rv_30")[made.view.mask("train")]
    expected = stats.kurtosis(raw[np.isfinite(raw)])
    tails = {kind: one["features"]["rv_30"]["kurtosis"] for kind, one in found.items()}
    assert tails["none"] == pytest.approx(expected)
    assert tails["robust_scaler"] == pytest.approx(expected, rel=1e-6)  # a straight line changes no shape
    assert tails["winsor"] < 3 < tails["none"]
    assert abs(tails["quantile"]) < 0.3
    assert {one["features"]["dow"]["kurtosis"] for one in found.values()} == {0.0}
