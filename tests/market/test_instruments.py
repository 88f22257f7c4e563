"""Ticks and the instrument table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.instruments import instrument, symbols

ES = instrument("ES")


def test_es_is_as_the_exchange_specifies() -> None:
    assert (ES.tick_size, ES.point_value, ES.tick_value) == (0.25, 50.0, 12.5)
    assert ES.calendar == "CME Globex Equity"
    assert ES.months == ("H", "M", "U", "Z")
    assert "ES" in symbols()


@given(st.lists(st.integers(-(10**6), 10**6)))
def test_ticks_survive_the_way_to_points_and_back(ticks: list[int]) -> None:
    points = np.array(ticks, dtype=np.float64) * ES.tick_size
    assert ES.to_ticks(points).tolist() == ticks
    assert ES.to_ticks(points).dtype == np.int64
    assert ES.is_on_tick(points).all()


def test_off_tick_prices_are_told_apart() -> None:
    assert ES.is_on_tick([6000.25, 6000.1, 6000.26, np.nan, np.inf]).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_prices_that_are_no_numbers_have_no_ticks(value: float) -> None:
    with pytest.raises(InvalidValueError, match="finite"):
        ES.to_ticks([6000.0, value])


def test_unknown_instrument_names_the_known() -> None:
    with pytest.raises(InvalidValueError, match="one of ES"):
        instrument("CL")
