"""Markets for the tests of the leakage checks, built once per session."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.leakage.comparison import Market
from vpoc_ml.leakage.generated_markets import awkward, martingale, regular, rolled


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
    """Three years of a martingale in 12 contracts."""
    return list(martingale(12, 11))


@pytest.fixture(scope="session")
def unpredictable_close(unpredictable: list[Market]) -> pl.Series:
    return pl.concat([market.bars["close"] for market in unpredictable])
