"""Small hand-made bars and features."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

UTC_US = pl.Datetime("us", "UTC")


def open_of(session: date) -> datetime:
    """First bar of a session: 23:00 UTC the day before (17:00 in Chicago, winter)."""
    return datetime(session.year, session.month, session.day, 23, tzinfo=UTC) - timedelta(days=1)


def weekdays(first: date, count: int) -> list[date]:
    """The next ``count`` weekdays from ``first`` on."""
    days = (first + timedelta(days=offset) for offset in range(count * 2))
    return [day for day in days if day.weekday() < 5][:count]


def make_bars(contract: str, sessions: list[date], minutes: int = 30, seed: int = 1) -> pl.DataFrame:
    """A random walk on the 0.25 grid, ``minutes`` bars a session, without gaps."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-3, 4, size=(len(sessions), minutes)) * 0.25
    closes = 5000 + np.cumsum(steps.ravel())
    ts = [open_of(day) + timedelta(minutes=minute) for day in sessions for minute in range(minutes)]
    opens = np.concatenate(([5000.0], closes[:-1]))
    return pl.DataFrame(
        {
            "ts": pl.Series(ts, dtype=UTC_US),
            "contract": [contract] * len(ts),
            "session": [day for day in sessions for _ in range(minutes)],
            "open": opens,
            "high": np.maximum(opens, closes),
            "low": np.minimum(opens, closes),
            "close": closes,
            "volume": np.full(len(ts), 10),
        }
    )


def make_features(bars: pl.DataFrame, warmup_rows: int = 0, seed: int = 2) -> pl.DataFrame:
    """Three features on the bars' stamps, NaN in the first ``warmup_rows`` rows of the first."""
    values = np.random.default_rng(seed).normal(size=(bars.height, 3)).astype(np.float32)
    values[:warmup_rows, 0] = np.nan
    columns = {f"f{index}": values[:, index] for index in range(3)}
    return bars.select("ts", "contract", "session").with_columns(**columns)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The builders above, for the tests of this folder."""
    return SimpleNamespace(bars=make_bars, features=make_features, weekdays=weekdays, open_of=open_of)
