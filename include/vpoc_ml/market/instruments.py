"""Instruments: tick, point value, calendar and delivery months. A new one is an entry in ``instruments.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vpoc_ml.errors import InvalidValueError

TICK_TOLERANCE = 1e-6  # of a tick: what decimal text loses as a double is a thousand times smaller


@dataclass(frozen=True)
class Instrument:
    """One futures product. Prices are in points; ``point_value`` is dollars a point."""

    symbol: str
    tick_size: float
    point_value: float
    calendar: str
    months: tuple[str, ...]
    last_trade: str = "08:30"

    @property
    def tick_value(self) -> float:
        """Dollars a tick."""
        return self.tick_size * self.point_value

    def to_ticks(self, prices: ArrayLike) -> NDArray[np.int64]:
        """Return prices in points as whole ticks, rounded to the nearest; ``is_on_tick`` tells what was rounded.

        Raises:
            InvalidValueError: a price is NaN or infinite.
        """
        points = np.asarray(prices, dtype=np.float64)
        if not np.isfinite(points).all():
            raise InvalidValueError("prices", "NaN or infinite", "finite numbers")
        return np.rint(points / self.tick_size).astype(np.int64)

    def is_on_tick(self, prices: ArrayLike) -> NDArray[np.bool_]:
        """Return True where a price lies on the tick grid; NaN and infinity do not."""
        ticks = np.asarray(prices, dtype=np.float64) / self.tick_size
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(ticks - np.rint(ticks)) < TICK_TOLERANCE)


@cache
def instrument(symbol: str) -> Instrument:
    """Return the instrument of a root symbol such as ``ES``.

    Raises:
        InvalidValueError: ``instruments.toml`` has no such entry.
    """
    table = _table()
    if symbol not in table:
        raise InvalidValueError("ingest.instrument", symbol, f"one of {', '.join(table)}")
    entry = table[symbol]
    return Instrument(
        symbol, entry["tick"], entry["point_value"], entry["calendar"], tuple(entry["months"]), entry["last_trade"]
    )


def symbols() -> tuple[str, ...]:
    """Return every known root symbol."""
    return tuple(_table())


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files(__package__).joinpath("instruments.toml").read_text(encoding="utf-8"))
