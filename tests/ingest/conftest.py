"""Small vendor files and a VIX that covers them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.ingest.vix.vix_closes import available_at

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write lines as a NinjaTrader export, with a line break after each."""

    def write_lines(
        lines: list[str], name: str = "ES 03-25.Last.txt", end: str = "\r\n", last: str | None = None
    ) -> Path:
        path = tmp_path / name
        path.write_bytes((end.join(lines) + (end if last is None else last)).encode())
        return path

    return write_lines


@pytest.fixture
def minutes() -> Callable[..., list[str]]:
    """Return lines for consecutive one-minute bars whose first START is given."""

    def lines(start: datetime, count: int, price: str = "6000;6000.5;5999.75;6000.25;10") -> list[str]:
        timestamps = (start + timedelta(minutes=n + 1) for n in range(count))
        return [f"{timestamp:%Y%m%d %H%M%S};{price}" for timestamp in timestamps]

    return lines


@pytest.fixture
def flat_vix() -> pl.DataFrame:
    """A VIX of 15 on every day of 2024 and 2025."""
    days = pl.date_range(date(2024, 1, 1), date(2025, 12, 31), eager=True)
    return pl.DataFrame({"date": days, "close": 15.0}).with_columns(available_at=available_at("date"))


@pytest.fixture
def noon() -> datetime:
    """A minute in the middle of a full RTH session."""
    return datetime(2025, 1, 15, 17, 0, tzinfo=UTC)
