"""Windows and recursions compared with numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vpoc_ml.features.series import (
    RUN_IN,
    above_vwap,
    fixed_point,
    macd_histogram,
    ratio,
    ratios_to_rows_before,
    rolling_correlation,
    rolling_extreme,
    rolling_score,
    rolling_slope,
    rolling_sum,
    scores_of_rows_before,
    sums_before,
    wilder_rsi,
)


def after_flat(*closes: float) -> tuple[np.ndarray, np.ndarray]:
    """Closes of 100 before the session as long as the run-in, then these; and the session's starts."""
    prices = np.concatenate((np.full(RUN_IN, 100.0), closes))
    return prices, np.array([RUN_IN, prices.size])


def test_rsi_by_hand():
    """Up 14, down 7, flat: gains 1, 13/14, (13/14)^2; losses 0, 1/2, 13/28."""
    found = wilder_rsi(*after_flat(100, 114, 107, 107), 14)[RUN_IN:]
    gain, loss = 13 / 14, 1 / 2
    assert found == pytest.approx([50, 100, 100 * gain / (gain + loss), 100 * gain / (gain + loss)], rel=1e-12)


def test_rsi_of_as_much_up_as_down_tends_to_one_half():
    zigzag = 100 + np.arange(400) % 2
    found = wilder_rsi(*after_flat(*zigzag), 14)
    assert found[-2:] == pytest.approx([48.15, 51.85], abs=0.01)  # 13/27 and 14/27


def test_macd_by_hand():
    """A step of 1: the averages move 2/13 and 2/27, the signal line a fifth of the difference."""
    found = macd_histogram(*after_flat(101, 101), 12, 26, 9)[RUN_IN:]
    first = 2 / 13 - 2 / 27
    second = (1 - (11 / 13) ** 2) - (1 - (25 / 27) ** 2)
    line = first / 5
    assert found == pytest.approx([first - line, second - (line + (second - line) / 5)], rel=1e-12)


def test_recursions_restart_before_every_session_and_need_a_full_run_in():
    draw = np.random.default_rng(3)
    close = 1000 + np.cumsum(draw.integers(-5, 6, 1300)).astype(float)
    starts = np.array([0, 200, 900, 1300])
    for kernel, options in ((wilder_rsi, (14,)), (macd_histogram, (12, 26, 9))):
        complete = kernel(close, starts, *options)
        assert np.isnan(complete[:900]).all()
        assert not np.isnan(complete[900:]).any()
        late = kernel(close[900 - RUN_IN :], np.array([RUN_IN, RUN_IN + 400]), *options)
        assert np.array_equal(late[RUN_IN:], complete[900:])


def test_restarting_a_recursion_changes_less_than_float32_resolves():
    """Against an RSI that never forgets, over 390 bars and more."""
    draw = np.random.default_rng(5)
    close = 1000 + np.cumsum(draw.integers(-5, 6, 3000)).astype(float)
    never = 3000 - RUN_IN
    once = wilder_rsi(close, np.array([RUN_IN, 3000]), 14)
    again = wilder_rsi(close, np.array([RUN_IN, never, 3000]), 14)
    assert once[never:] == pytest.approx(again[never:], rel=1e-10)


def test_moments_by_hand():
    """1, 2, 4 and 3, 3, 6: n^2 times the variances 14/9 and 2, and the covariance 5/3; 4 lies 5/3 above its mean."""
    first, second = np.array([9, 1, 2, 4]), np.array([5, 3, 3, 6])
    assert rolling_slope(first, second, 3)[-1] == 15 / 18
    assert rolling_correlation(first, second, 3)[-1] == 15 / (math.sqrt(14) * math.sqrt(18))
    assert rolling_score(first, 3)[-1] == pytest.approx((5 / 3) / math.sqrt(7 / 3), rel=1e-15)


def test_moments_are_exact_though_their_terms_overflow():
    """Of 1, 2, 3 and 4 the variance is 20/16, that of a sample 5/3; where nothing varies 0 is given."""
    big = 2**32
    values, flat = np.array([0, 1, 2, 3, 4]) + big, np.full(9, big)
    assert rolling_slope(values, values, 4)[-1] == 1
    assert rolling_correlation(values, values, 4)[-1] == pytest.approx(1, rel=1e-15)
    assert rolling_score(values, 4)[-1] == pytest.approx(1.5 / math.sqrt(5 / 3), rel=1e-15)
    assert (rolling_slope(flat, flat, 4)[3:] == 0).all()
    assert (rolling_correlation(flat, flat, 4)[3:] == 0).all()
    assert (rolling_score(flat, 4)[3:] == 0).all()


def test_a_flat_window_after_a_jump_sums_to_exactly_zero():
    squares = fixed_point(np.array([0.0, 0.3, 0.1, 0.0, 0.0]) ** 2, 54)
    assert rolling_sum(squares, 2).tolist()[-1] == 0


def test_sums_by_hand():
    values = np.array([1, 2, 3, 4, 5])
    assert rolling_sum(values, 2).tolist() == [1, 3, 5, 7, 9]
    assert np.array_equal(sums_before(np.array([1.0, 2.0, 4.0]), 2), [np.nan, np.nan, 3.0], equal_nan=True)
    assert ratio(np.array([1.0, 2.0]), np.array([2.0, 0.0]), 7.0).tolist() == [0.5, 7.0]


def test_vwap_by_hand():
    """At 1 and 3 ticks with weights 1 and 3: mean 5/2, deviation sqrt(3)/2; the next session knows nothing of them."""
    price, close, volume = np.array([3, 9, 9, 30]), np.array([1.0, 3.0, 4.0, 10.0]), np.array([1, 3, 0, 0])
    share, score = above_vwap(price, close, volume, np.array([0, 3, 4]), 1.0)
    assert share == pytest.approx([0, 0.5 / 2.5, 1.5 / 2.5, 0])
    assert score == pytest.approx([0, 0.5 / math.sqrt(0.75), 1.5 / math.sqrt(0.75), 0])


def test_columns_against_the_rows_before_by_hand():
    """Of the second column the second row does not count, nor does what it holds."""
    grid, spans = np.array([[1, 2], [3, 99], [5, 6], [6, 8]]), np.array([[0, 1], [0, 0], [0, 1], [0, 1]])
    ratios, scores = ratios_to_rows_before(grid, spans, 2, 1), scores_of_rows_before(grid, spans, 2, 2, 0.5)
    assert np.isnan([ratios[:2], scores[:2]]).all()
    assert ratios[2:].tolist() == [[5 / 2, 6 / 2], [6 / 4, 8 / 6]]
    assert scores[2:] == pytest.approx(np.array([[3 / math.sqrt(2), 0], [2 / math.sqrt(2), 0]]))


@pytest.mark.parametrize("bars", [1, 2, 3, 7, 60])
def test_rolling_extremes_are_those_of_each_window(bars):
    values = np.random.default_rng(bars).integers(0, 50, 300).astype(float)
    windows = [values[max(row + 1 - bars, 0) : row + 1] for row in range(300)]
    assert rolling_extreme(values, bars, np.maximum).tolist() == [window.max() for window in windows]
    assert rolling_extreme(values, bars, np.minimum).tolist() == [window.min() for window in windows]


def test_the_largest_bollinger_deviation_is_its_hard_bound():
    """Nineteen equal closes and one above: deviation (n - 1) / sqrt(n) with n - 1 in the standard deviation."""
    close = np.array([5] * 19 + [6])
    assert rolling_score(close, 20)[-1] == pytest.approx(19 / math.sqrt(20), rel=1e-14)
