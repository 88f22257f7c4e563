"""Split-conformal intervals: a slow oracle, the guarantee by simulation, small samples by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vpoc_ml.evaluation.conformal import interval_offsets, residual_quantiles


def slow_offsets(errors, percent):
    """Return the bounds by counting: the tightest ones with at most n + 1 times the tail beyond each."""
    known = sorted(error for error in errors if not math.isnan(error))
    allowed = (100 - percent) * (len(known) + 1) / 200  # of n + 1 exchangeable errors, beyond each bound
    low, high = -1.0, 1.0
    for bound in known:
        if sum(error < bound for error in known) + 1 <= allowed + 1e-9:
            low = max(low, bound)
        if sum(error > bound for error in known) + 1 <= allowed + 1e-9:
            high = min(high, bound)
    return low, high


@pytest.mark.parametrize("size", [0, 1, 19, 20, 199, 777])
@pytest.mark.parametrize("percent", [50, 77, 90, 99])
def test_bounds_are_those_of_the_slow_oracle(size, percent):
    errors = np.random.default_rng(size).uniform(-0.6, 0.5, size)
    errors = np.append(errors, np.nan)
    assert interval_offsets(residual_quantiles(errors), percent / 100) == slow_offsets(errors, percent)


def test_nineteen_errors_by_hand():
    found = residual_quantiles(np.arange(1, 20) / 20)
    assert found.rows == 19
    assert interval_offsets(found, 0.9) == (0.05, 0.95)  # the 1st and the 19th of 19: 18 of 20 gaps lie between
    assert interval_offsets(found, 0.91) == (-1.0, 1.0), "19 errors cannot hold more than 90 %"
    assert interval_offsets(found, 0.895) == interval_offsets(found, 0.9), "rounded up to whole percent"


def test_a_new_error_is_inside_as_often_as_stated_whatever_the_distribution():
    rng, inside = np.random.default_rng(3), []
    for _ in range(2000):
        errors = rng.exponential(0.1, 61) - 0.05 * rng.standard_t(3, 61)
        low, high = interval_offsets(residual_quantiles(errors[:-1].clip(-1, 1)), 0.8)
        inside.append(low <= errors[-1].clip(-1, 1) <= high)
    share = np.mean(inside)
    assert 0.8 - 3 * 0.009 < share < 0.8 + 2 / 61 + 3 * 0.009
