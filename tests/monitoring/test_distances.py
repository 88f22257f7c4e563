"""PSI and KS by hand, and against scipy on data that are in no bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from vpoc_ml.artifacts.monitoring_reference import Moments
from vpoc_ml.monitoring.distances import bin_counts, ks, missing_excess, moment_distances, psi

SMALL = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


def test_psi_by_hand():
    """Shares 0.5, 0.25, 0.25 against 0.25, 0.25, 0.5: 2 * 0.25 * ln 2 but for the half that every count gets."""
    found = psi(np.array([50_000, 25_000, 25_000]), np.array([25_000, 25_000, 50_000]))
    assert found == pytest.approx(0.5 * math.log(2), abs=1e-4)
    q, p = (2.5 / 4, 1.5 / 4), (1.5 / 4, 2.5 / 4)
    by_hand = sum((a - b) * math.log(a / b) for a, b in zip(q, p, strict=True))
    assert psi(np.array([2, 1]), np.array([1, 2])) == pytest.approx(by_hand)


def test_a_bin_holds_its_upper_edge_and_the_smallest_value():
    values = np.array([0.9, 1.0, 2.0, 2.1, 3.0, 3.1, math.nan, math.inf])
    assert bin_counts(values, (1.0, 2.0, 3.0)).tolist() == [1, 2, 2, 1]
    assert bin_counts(np.array([6.0, 7.0, 7.0, 8.0]), (7.0, 7.0)).tolist() == [1, 2, 1]


@given(SMALL, SMALL)
def test_ks_with_an_edge_at_every_value_is_that_of_scipy(first, second):
    edges = [-6.0, *sorted({*first, *second})]
    counts = [bin_counts(np.array(each), edges) for each in (first, second)]
    assert ks(*counts) == pytest.approx(ks_2samp(first, second, method="asymp").statistic)


def test_distances_of_a_label_by_hand():
    found = moment_distances(Moments(mean=0.5, std=2.0, up=0.6), Moments(mean=0.0, std=1.0, up=0.5))
    assert found == pytest.approx({"mean": 0.5, "scale": math.log(2), "up": 0.1})


def test_values_without_a_counterpart_give_no_distance():
    empty, some = np.zeros(3, dtype=np.int64), np.array([1, 2, 3])
    assert psi(empty, some) == ks(some, empty) == 0
    assert missing_excess(3, 10, 1, 100) == pytest.approx(0.29)
    assert missing_excess(0, 10, 1, 100) == 0
