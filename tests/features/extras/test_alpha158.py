"""Alpha158 against its formulas in pandas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from vpoc_ml.features.extras import alpha158
from vpoc_ml.features.extras.alpha158 import Series, bar_shapes, rolling
from vpoc_ml.features.registry import ALPHA_WINDOWS, OPTIONAL_FEATURES

ROWS = 260


@pytest.fixture(scope="module")
def series() -> Series:
    draw = np.random.default_rng(3)
    steps = draw.integers(-3, 4, ROWS) * (draw.random(ROWS) < 0.6)
    steps[100:175] = 0  # flat for longer than the longest window
    close = 20_000.0 + np.cumsum(steps)
    spread = draw.integers(0, 3, (2, ROWS)).astype(float)
    spread[:, 100:175] = 0
    volume = draw.integers(0, 200, ROWS) * (draw.random(ROWS) < 0.85)
    volume[110:180] = 7
    return Series(close + spread[0], close - spread[1], close, volume.astype(float))


def line(values: np.ndarray) -> tuple[float, float, float]:
    """Return slope, R squared and last residual by least squares."""
    at = np.arange(1, values.size + 1.0)
    slope, intercept = np.polyfit(at, values - values[-1], 1)
    residual = values - values[-1] - intercept - slope * at
    total = np.sum((values - values.mean()) ** 2)
    return slope, 1 - np.sum(residual**2) / total if total else 0.0, residual[-1]


def expected(s: Series, n: int) -> dict[str, pd.Series]:
    high, low, close, volume = (pd.Series(each) for each in s)
    before, earlier = close.shift(1), volume.shift(1).clip(lower=1)
    up, down = (close - before).clip(lower=0), (before - close).clip(lower=0)
    more, moved = (volume - volume.shift(1)).clip(lower=0), (volume - volume.shift(1)).abs()
    c, v = close.rolling(n), volume.rolling(n)
    top, bottom = high.rolling(n).max(), low.rolling(n).min()
    at_top, at_bottom = high.rolling(n).apply(np.argmax, raw=True) + 1, low.rolling(n).apply(np.argmin, raw=True) + 1
    fits = [c.apply(lambda values, part=part: line(values)[part], raw=True) for part in range(3)]
    heavy = (close / before - 1).abs() * volume
    fall = (close < before).where(before.notna()).astype(float)
    rise = (close > before).where(before.notna()).astype(float)
    h = heavy.rolling(n)
    varied = (h.apply(deviation, raw=True) / h.apply(np.mean, raw=True)).where(h.max() > 0, 0.0).where(h.count() == n)
    basis: Callable[[pd.Series], pd.Series] = lambda level: 1e4 * (level / close - 1)  # noqa: E731
    return {
        "roc": basis(close.shift(n)), "ma": basis(c.mean()), "max": basis(top), "min": basis(bottom),
        "qtlu": basis(c.quantile(0.8)), "qtld": basis(c.quantile(0.2)),
        "std": 1e4 * c.apply(deviation, raw=True) / close,
        "beta": 1e4 * fits[0] / close, "rsqr": fits[1], "resi": 1e4 * fits[2] / close,
        "rank": c.rank(pct=True),
        "rsv": ((close - bottom) / (top - bottom)).where(top > bottom, 0.5).where(top.notna()),
        "imax": at_top / n, "imin": at_bottom / n, "imxd": (at_top - at_bottom) / n,
        "cntp": rise.rolling(n).mean(), "cntn": fall.rolling(n).mean(), "cntd": (rise - fall).rolling(n).mean(),
        "sump": share(up.rolling(n).sum(), (up + down).rolling(n).sum()),
        "corr": correlation(close, np.log(volume + 1), n),
        "cord": correlation(close / before, np.log(volume / earlier + 1), n),
        "vma": v.mean() / volume.clip(lower=1), "vstd": v.apply(deviation, raw=True) / volume.clip(lower=1),
        "wvma": varied,
        "vsump": share(more.rolling(n).sum(), moved.rolling(n).sum()),
    }  # fmt: skip


def deviation(values: np.ndarray) -> float:
    """Pandas' own rolling deviation leaves 1e-6 in a flat window."""
    return float(np.std(values, ddof=1))


def share(part: pd.Series, total: pd.Series) -> pd.Series:
    return (part / total).where(total != 0, 0.5).where(total.notna())


def correlation(left: pd.Series, right: pd.Series, n: int) -> pd.Series:
    """Return Pearson's correlation window by window, 0 where one side does not vary."""
    found = np.full(left.size, np.nan)
    for row in range(n - 1, left.size):
        one, other = left.to_numpy()[row - n + 1 : row + 1], right.to_numpy()[row - n + 1 : row + 1]
        if np.isfinite(one).all() and np.isfinite(other).all():
            varies = np.ptp(one) > 0 and np.ptp(other) > 0
            found[row] = np.corrcoef(one, other)[0, 1] if varies else 0.0
    return pd.Series(found)


@pytest.mark.parametrize("bars", ALPHA_WINDOWS)
def test_every_rolling_feature_equals_its_formula(bars, series):
    found, wanted = rolling(series, bars), expected(series, bars)
    assert sorted(found) == sorted(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values.to_numpy(), rtol=1e-7, atol=1e-7, err_msg=name)


def test_a_flat_window_gives_its_stated_values_exactly(series):
    found = {name: values[174] for name, values in rolling(series, 60).items()}
    zero = ("std", "beta", "resi", "rsqr", "roc", "ma", "max", "min", "qtlu", "qtld", "corr", "cord", "cntd", "wvma")
    assert {found[name] for name in zero} == {0.0}
    assert {found[name] for name in ("sump", "rsv", "vsump")} == {0.5}
    assert (found["vma"], found["vstd"]) == (1.0, 0.0)


def test_the_shape_of_a_bar_by_hand():
    opened, high, low, close = (np.array([value, 100.0]) for value in (100.0, 104.0, 98.0, 103.0))
    found = {name: values.tolist() for name, values in bar_shapes(opened, high, low, close).items()}
    assert found["kmid"] == [300.0, 0.0]
    assert found["klen"] == [600.0, 0.0]
    assert found["kup"] == [100.0, 0.0]
    assert found["klow"] == [200.0, 0.0]
    assert found["ksft"] == [400.0, 0.0]
    assert found["kmid2"] == [0.5, 0.0]
    assert found["kup2"] == [1 / 6, 0.0]
    assert found["klow2"] == [1 / 3, 0.0]
    assert found["ksft2"] == [2 / 3, 0.0]
    assert found["high0"] == [1e4 * 1 / 103, 0.0]
    assert found["low0"] == [1e4 * -5 / 103, 0.0]


def test_the_list_names_each_formula_once(series):
    names = {f"alpha_{name}_{bars}m" for bars in ALPHA_WINDOWS for name in rolling(series, bars)}
    names |= {f"alpha_{name}" for name in bar_shapes(*np.ones((4, 1)))}
    names.remove("alpha_rsv_60m")  # the same values as donch_pos_60
    assert names == {name for name, feature in OPTIONAL_FEATURES.items() if feature.family == "alpha158"}
    assert len(names) == 135


def test_series_shorter_than_the_window_have_no_value():
    few = np.arange(4.0)
    for found in (
        alpha158.totals(few, 5), alpha158.trends(few, 5), alpha158.extremes(few, few, 5),
        alpha158.orders(few, 5, 0.2, 0.8), alpha158.correlations(few, few, 5),
    ):  # fmt: skip
        assert np.isnan(found).all()


def test_a_level_a_million_times_the_moves_costs_no_digits():
    """The kernels sum distances from the newest value: the spread of small moves on a high level stays exact."""
    moves = np.random.default_rng(1).integers(-5, 6, 200).astype(float)
    near, far = (alpha158.trends(moves + level, 20) for level in (0.0, 2.0**40))
    np.testing.assert_array_equal(near[1:], far[1:])
