"""The zone of a timestamp is in its text or in a setting; it is never assumed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")
MAPPING = ("timestamp=Time", "open=Open", "high=High", "low=Low", "close=Close", "volume=Volume")
NINE_THIRTY = datetime(2023, 3, 8, 14, 30, tzinfo=UTC)
"""09:30 in New York."""
WITH_A_ZONE = [
    "2023-03-08 09:30:00-05:00",
    "2023-03-08T09:30:00-0500",
    "2023-03-08T09:30:00-05",
    "2023-03-08 09:30-05:00",
    "2023-03-08 09:30:00.000 -05:00",
    "2023-03-08T14:30:00Z",
    "2023-03-08 14:30:00.000000Z",
    "2023-03-08 14:30:00 UTC",
    "2023-03-08 09:30 EST",
    "2023-03-08 08:30:00 CST",
    "2023-03-08 15:30:00 CET",
    "2023-03-08 09:30:00 US/Eastern",
    "2023-03-08 15:30 Europe/Berlin",
]


def csv(folder: Path, timestamps: list[str]) -> Path:
    path = folder / "ESH23.csv"
    rows = "".join(f"{timestamp},4000,4001,3999.5,4000.5,{100 + n}\n" for n, timestamp in enumerate(timestamps))
    path.write_text("Time,Open,High,Low,Close,Volume\n" + rows)
    return path


def parquet(folder: Path, timestamps: list[str]) -> Path:
    path = folder / "ESH23.parquet"
    columns = {"Time": timestamps, "Open": 4000.0, "High": 4001.0, "Low": 3999.5, "Close": 4000.5, "Volume": 100}
    pl.DataFrame(columns).write_parquet(path)
    return path


def times(folder: Path, **settings: object) -> list[datetime | None]:
    config = IngestConfig(**{"mapping": MAPPING, "label_side": "start", **settings})
    source = discover(folder, ES, config).contracts["ESH23"][0]
    return pl.concat(READERS[source.reader].batches(source, ES, config))["ts"].to_list()


@pytest.mark.parametrize("write", [csv, parquet])
def test_iso_timestamps_without_a_zone_are_of_the_zone_that_is_set(write, tmp_path: Path) -> None:
    write(tmp_path, ["2023-03-08 09:30:00", "2023-03-08 09:31:00"])
    assert times(tmp_path, timezone="America/New_York") == [NINE_THIRTY, NINE_THIRTY + timedelta(minutes=1)]


@pytest.mark.parametrize("write", [csv, parquet])
def test_iso_timestamps_without_a_zone_need_the_setting(write, tmp_path: Path) -> None:
    write(tmp_path, ["2023-03-08T09:30:00"])
    with pytest.raises(UnreadableFileError, match=r"without a zone\. Set ingest\.timezone"):
        times(tmp_path)


@pytest.mark.parametrize("zone", ["auto", "Asia/Tokyo"])
@pytest.mark.parametrize("write", [csv, parquet])
@pytest.mark.parametrize("timestamp", WITH_A_ZONE)
def test_timestamp_that_carries_a_zone_keeps_it(timestamp: str, write, zone: str, tmp_path: Path) -> None:
    write(tmp_path, [timestamp])
    assert times(tmp_path, timezone=zone) == [NINE_THIRTY]


@pytest.mark.parametrize("timestamp", WITH_A_ZONE[:11])
def test_timestamp_in_an_own_format_may_carry_an_offset_as_well(timestamp: str, tmp_path: Path) -> None:
    clock = timestamp.replace("T", " ", 1)[11:16]
    rest = timestamp[19:].removeprefix(".000000").removeprefix(".000") if timestamp[16:17] == ":" else timestamp[16:]
    csv(tmp_path, [f"08.03.2023 {clock}{rest}"])
    assert times(tmp_path, mapping=(*MAPPING, "format=%d.%m.%Y %H:%M")) == [NINE_THIRTY]


@pytest.mark.parametrize("write", [csv, parquet])
def test_timestamp_without_a_zone_among_others_is_not_read_as_utc(write, tmp_path: Path) -> None:
    timestamps = ["2023-03-08 09:30:00-05:00"] * 250
    write(tmp_path, [*timestamps, "2023-03-08 09:31:00", timestamps[0]])
    assert times(tmp_path)[249:] == [NINE_THIRTY, None, NINE_THIRTY]
    assert times(tmp_path, timezone="America/New_York")[250] == NINE_THIRTY + timedelta(minutes=1)
    write(tmp_path, [timestamps[0], "2023-03-08 09:31:00"])
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.timezone"):
        times(tmp_path)


def test_timestamp_with_an_offset_among_others_keeps_it(tmp_path: Path) -> None:
    csv(tmp_path, ["2023-03-08 09:29:00", "2023-03-08 09:30:00-05:00"])
    assert times(tmp_path, timezone="America/Chicago")[1] == NINE_THIRTY
    with pytest.raises(UnreadableFileError, match=r"Set ingest\.timezone"):
        times(tmp_path)


def test_unknown_zone_name_is_named(tmp_path: Path) -> None:
    csv(tmp_path, ["2023-03-08 09:30:00 QQT"])
    with pytest.raises(UnreadableFileError, match=r"QQT'; no row can be read\. QQT is no known zone"):
        times(tmp_path, timezone="America/New_York")


@pytest.mark.parametrize("timestamp", WITH_A_ZONE)
def test_tradingview_and_interactive_brokers_take_the_zone_of_the_timestamp(timestamp: str, tmp_path: Path) -> None:
    forms = {
        "ESH23.csv": "date,open,high,low,close,volume,average,barCount\n{},4000,4001,3999.5,4000.5,100.0,4000.2,12\n",
        "CME_MINI_ESH2023, 1.csv": "time,open,high,low,close,Volume\n{},4000,4001,3999.5,4000.5,100\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text.format(re.sub("(?<=\\d)T", " ", timestamp)))
        assert times(tmp_path, mapping=(), label_side="auto", timezone="Asia/Tokyo") == [NINE_THIRTY]
        (tmp_path / name).unlink()
