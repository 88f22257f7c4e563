"""When the exchange's day is over, for the nightly run and for the contracts. Light: DAG files import it."""

from __future__ import annotations

from vpoc_ml.market.nights import CHICAGO, CLOSE_OF_DAY

__all__ = ["CHICAGO", "CLOSE_OF_DAY"]
