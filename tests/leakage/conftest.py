"""Markets for the detector's tests, made once."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.leakage.market import Market
from vpoc_ml.leakage.martingale import martingale
from vpoc_ml.leakage.random_markets import awkward, regular, rolled


@pytest.fixture(scope="session")
def rough() -> Market:
    """A roll, sessions of 60 to 110 bars at random minutes, flat stretches and stretches without volume."""
    return awkward()


@pytest.fixture(scope="session")
def steady() -> Market:
    """52 sessions of the same 90 minutes."""
    return regular()


@pytest.fixture(scope="session")
def two_contracts() -> list[Market]:
    """Two contracts in a row, one bar in eight missing."""
    return rolled()


@pytest.fixture(scope="session")
def unpredictable() -> list[Market]:
    """Three years of a market that nothing can predict, in 12 contracts."""
    return list(martingale(12, 11))


@pytest.fixture(scope="session")
def unpredictable_close(unpredictable: list[Market]) -> pl.Series:
    return pl.concat([market.bars["close"] for market in unpredictable])
