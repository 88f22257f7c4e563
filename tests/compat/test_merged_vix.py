"""Daily closes out of a merged file's VIX column: right under every way it may have been joined, early under none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from vpoc_ml.compat.train_command import write_closes
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.vix.vix_closes import read_vix

NEW_YORK = ZoneInfo("America/New_York")
DAYS = [date(2025, 1, 6) + timedelta(days=n) for n in range(5)]
CLOSE = {day: 15.0 + n for n, day in enumerate([DAYS[0] - timedelta(days=3), *DAYS])}
START = datetime(2025, 1, 5, 23, tzinfo=UTC)


def by_utc_date(timestamp: datetime) -> date:
    return timestamp.date()


def by_trade_date(timestamp: datetime) -> date:
    local = timestamp.astimezone(NEW_YORK)
    return local.date() + timedelta(days=local.hour >= 18)


def lagged(timestamp: datetime) -> date:
    return by_trade_date(timestamp) - timedelta(days=1)


def merged(joined) -> pl.DataFrame:
    """Half-hourly bars of a week with the close that a way of joining gives them."""
    timestamps = [START + timedelta(minutes=30 * n) for n in range(1, 2 * 24 * 5)]
    closes = [max((day for day in CLOSE if day <= joined(timestamp)), default=min(CLOSE)) for timestamp in timestamps]
    return pl.DataFrame(
        {
            "timestamp": [f"{timestamp:%Y-%m-%d %H:%M:%S}" for timestamp in timestamps],
            "VIX": [CLOSE[day] for day in closes],
        }
    )


@pytest.mark.parametrize(("joined", "lag"), [(by_utc_date, 0), (by_trade_date, 0), (lagged, 1)])
def test_no_close_is_early_and_none_is_later_than_the_joins_own_lag(joined, lag, tmp_path):
    merged(joined).write_csv(tmp_path / "merged.csv")
    closes = dict(read_vix(write_closes(tmp_path / "merged.csv", tmp_path / "vix.csv")).select("date", "close").rows())
    assert set(closes) == {DAYS[0] - timedelta(days=2), *DAYS}
    for number, day in enumerate(DAYS):
        true = CLOSE[day] if lag == 0 else CLOSE[DAYS[number - 1] if number else min(CLOSE)]
        assert closes[day] == true


def test_parquet_with_timestamps_in_a_zone_gives_the_same(tmp_path):
    frame = merged(by_utc_date)
    frame.write_csv(tmp_path / "merged.csv")
    timestamps = pl.col("timestamp").str.to_datetime().dt.replace_time_zone("UTC")
    for name, column in (("utc", timestamps), ("local", timestamps.dt.convert_time_zone("America/Chicago"))):
        frame.with_columns(column.alias("timestamp")).write_parquet(tmp_path / f"{name}.parquet")
    texts = {
        write_closes(tmp_path / name, tmp_path / f"{name}.vix.csv").read_text()
        for name in ("merged.csv", "utc.parquet", "local.parquet")
    }
    assert len(texts) == 1


def test_date_and_time_in_two_columns_give_the_same(tmp_path):
    frame = merged(by_utc_date)
    frame.write_csv(tmp_path / "merged.csv")
    for name, pattern in (("iso", "%Y-%m-%d,%H:%M:%S"), ("slashed", "%m/%d/%Y,%H:%M")):
        timestamps = frame["timestamp"].str.to_datetime().dt.strftime(pattern)
        lines = [f"{timestamp},{vix}" for timestamp, vix in zip(timestamps, frame["VIX"], strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["Date,Time,VIX", *lines]) + "\n")
    config = IngestConfig(date_order="month_first")
    texts = {
        write_closes(tmp_path / f"{name}.csv", tmp_path / f"{name}.vix.csv", config).read_text()
        for name in ("merged", "iso", "slashed")
    }
    assert len(texts) == 1


def test_timestamps_without_a_zone_are_of_the_zone_that_is_set(tmp_path):
    """Read as UTC, the rows of a New York evening would count as known at 16:15."""
    frame = merged(by_utc_date)
    frame.write_csv(tmp_path / "utc.csv")
    local = pl.col("timestamp").str.to_datetime().dt.replace_time_zone("UTC").dt.convert_time_zone(str(NEW_YORK))
    frame.with_columns(local.dt.strftime("%Y-%m-%d %H:%M:%S").alias("timestamp")).write_csv(tmp_path / "local.csv")
    expected = write_closes(tmp_path / "utc.csv", tmp_path / "utc.vix.csv").read_text()
    config = IngestConfig(timezone="America/New_York")
    assert write_closes(tmp_path / "local.csv", tmp_path / "local.vix.csv", config).read_text() == expected
    assert write_closes(tmp_path / "local.csv", tmp_path / "wrong.vix.csv").read_text() != expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,close\n2025-01-06 10:00:00,1\n", "columns VIX and timestamp or date; found timestamp, close"),
        ("when,vix\n2025-01-06 10:00:00,15\n", "found when, vix"),
        ("timestamp,VIX\n2025-01-06 10:00:00,\n", "positive closes; found none"),
        ("timestamp,VIX\nyesterday,15\n", "timestamps such as"),
    ],
)
def test_file_without_closes_is_refused_with_the_way_out(text, message, tmp_path):
    (tmp_path / "merged.csv").write_text(text)
    with pytest.raises(UnreadableFileError, match=message):
        write_closes(tmp_path / "merged.csv", tmp_path / "vix.csv")
