"""VIX files of three publishers, and the join without look-ahead."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError, VixCoverageError
from vpoc_ml.ingest.vix.index_files import identify_index
from vpoc_ml.ingest.vix.vix_closes import check_coverage, join_vix, read_vix

CME = "CME Globex Equity"
CBOE = "DATE,OPEN,HIGH,LOW,CLOSE\r\n01/10/2025,18.1,19.9,18.0,19.54\r\n01/13/2025,20.0,22.0,19.0,19.19\r\n"
ISO = "Date,Open,High,Low,Close\n2025-01-10,18.1,19.9,18.0,19.540000\n2025-01-13,20,22,19,19.190000\n"
FRED = "observation_date,VIXCLS\n2025-01-09,\n2025-01-10,19.54\n2025-01-13,19.19\n"
FRED_OLD = "DATE,VIXCLS\n2025-01-09,.\n2025-01-10,19.54\n2025-01-13,19.19\n"


@pytest.fixture
def vix_file(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "vix.csv").write_bytes(text.encode())
        return tmp_path / "vix.csv"

    return write


@pytest.mark.parametrize("text", [CBOE, ISO, FRED, FRED_OLD], ids=["cboe", "iso", "fred", "fred before 2024"])
def test_formats_give_the_same_closes(vix_file, text: str) -> None:
    closes = read_vix(vix_file(text))
    assert closes["date"].to_list() == [date(2025, 1, 10), date(2025, 1, 13)]
    assert closes["close"].to_list() == [19.54, 19.19]
    assert closes.schema == {"date": pl.Date(), "close": pl.Float64(), "available_at": pl.Datetime("us", "UTC")}
    assert closes["available_at"][0] == datetime(2025, 1, 10, 21, 15, tzinfo=UTC)
    assert identify_index("closes.csv", text.splitlines(), IngestConfig()) == "VIX"


def test_close_is_published_at_quarter_past_four_new_york_in_summer_too(vix_file) -> None:
    closes = read_vix(vix_file("DATE,CLOSE\n2025-07-15,17.0\n2025-01-15,18.0\n"))
    assert closes["date"].is_sorted()
    assert [timestamp.hour for timestamp in closes["available_at"]] == [21, 20]


@pytest.mark.parametrize(
    ("text", "found", "line"),
    [
        ("", "an empty file", 1),
        ("time,value\n2025-01-10,19\n", "time,value", 1),
        ("DATE,CLOSE,VIXCLS\n2025-01-10,19,19\n", "DATE,CLOSE,VIXCLS", 1),
        ("DATE,CLOSE\n01/02/2025,19\n03/04/2025,20\n", "day first", None),
        ("DATE,CLOSE\n13/01/2025,19\n14/01/2025,20\n", "13/01/2025", 2),
        ("DATE,CLOSE\n2025-01-10,19\n01/13/2025,20\n", "01/13/2025", 3),
        ("DATE,CLOSE\n2025-01-10,high\n", "high", 2),
        ("DATE,CLOSE\n2025-01-10,-1\n", "-1", 2),
        ("DATE,CLOSE\n2025-01-10,nan\n", "nan", 2),
        ("DATE,OPEN,CLOSE\n2025-01-10,19,19\n2025-01-13,19\n", "2025-01-13,19", 3),
        ("DATE,CLOSE\n2025-01-10,19\n2025-01-10,20\n", "two for 2025-01-10", 3),
        ("observation_date,VIXCLS\n2025-01-09,.\n", "no close", None),
    ],
)
def test_unknown_or_ambiguous_files_are_refused(vix_file, text: str, found: str, line: int | None) -> None:
    with pytest.raises(UnreadableFileError, match=found) as caught:
        read_vix(vix_file(text))
    assert caught.value.line == line


def test_repeated_identical_rows_count_once(vix_file) -> None:
    assert read_vix(vix_file("DATE,CLOSE\n2025-01-10,19\n2025-01-10,19\n")).height == 1


def test_absent_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_vix(tmp_path / "vix.csv")


def bars_at(*timestamps: datetime) -> pl.DataFrame:
    return pl.DataFrame({"ts": timestamps, "session": [timestamp.date() for timestamp in timestamps]}).with_columns(
        pl.col("ts").dt.cast_time_unit("us")
    )


def test_bar_sees_only_closes_published_strictly_before_it(vix_file) -> None:
    fixing = datetime(2025, 1, 13, 21, 15, tzinfo=UTC)
    before, at, after = fixing - timedelta(minutes=1), fixing, fixing + timedelta(minutes=1)
    early = datetime(2025, 1, 10, 15, 0, tzinfo=UTC)
    joined = join_vix(bars_at(early, before, at, after), read_vix(vix_file(CBOE)))
    assert joined["vix"].to_list() == [None, 19.54, 19.54, 19.19]
    assert joined.columns == ["ts", "session", "vix"]


def test_value_within_the_day_is_seen_by_bars_that_start_after_its_interval(tmp_path: Path) -> None:
    path = tmp_path / "vix.csv"
    path.write_text("Datetime,Close\n2025-01-13 09:30:00-05:00,19.5\n2025-01-13 09:35:00-05:00,19.8\n")
    timestamps = [datetime(2025, 1, 13, 14, minute, tzinfo=UTC) for minute in (34, 35, 36, 40, 41)]
    assert join_vix(bars_at(*timestamps), read_vix(path))["vix"].to_list() == [None, None, 19.5, 19.5, 19.8]


def daily(first: date, last: date) -> pl.DataFrame:
    days = pl.date_range(first, last, eager=True)
    local = pl.col("date").dt.combine(datetime(2000, 1, 1, 16, 15).time())  # noqa: DTZ001
    return pl.DataFrame({"date": days, "close": 15.0}).with_columns(
        available_at=local.dt.replace_time_zone("America/New_York").dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    )


@pytest.mark.parametrize(
    ("first", "last", "covers"),
    [
        (date(2024, 12, 1), date(2025, 3, 1), True),
        (date(2025, 1, 14), date(2025, 3, 1), True),
        (date(2025, 1, 15), date(2025, 3, 1), False),  # nothing before the first bar
        (date(2024, 12, 1), date(2025, 1, 22), True),  # 5 sessions: 23, 24, 27, 28, 29 January
        (date(2024, 12, 1), date(2025, 1, 21), False),
        (date(2023, 12, 1), date(2024, 3, 1), False),
        (date(2026, 1, 1), date(2026, 3, 1), False),
    ],
)
def test_coverage_needs_a_close_before_and_none_older_than_five_sessions(first: date, last: date, covers: bool) -> None:
    bars = bars_at(datetime(2025, 1, 15, 15, 0, tzinfo=UTC), datetime(2025, 1, 30, 15, 0, tzinfo=UTC))
    if covers:
        check_coverage(bars, daily(first, last), CME)
        return
    with pytest.raises(VixCoverageError, match=r"vix\.csv covers .* overlaps"):
        check_coverage(bars, daily(first, last), CME, path="vix.csv")


@pytest.mark.real
def test_real_file_covers_36_years(real_data: Path) -> None:
    closes = read_vix(real_data / "vix" / "vix-daily.csv")
    assert closes["date"][0] == date(1990, 1, 2)
    assert closes["date"][-1] == date(2026, 7, 23)
    assert closes["close"].is_between(8, 90).all()
