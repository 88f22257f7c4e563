"""Files with a declared mapping: positions, sums of columns, decimal commas, and errors if no row can be read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InputError, InvalidValueError, UnreadableFileError
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")
BY_POSITION = ("timestamp=1", "open=2", "high=3", "low=4", "close=5", "volume=6")
BY_NAME = ("timestamp=Time", "open=Open", "high=High", "low=Low", "close=Close", "volume=Volume")
GERMAN = ("date=Datum", "time=Zeit", "open=Auf", "high=Hoch", "low=Tief", "close=Schluss", "volume=Volumen")
GERMAN_OPTIONS = ("separator=semicolon", "format=%d.%m.%Y %H:%M")


def rows(folder: Path, text: str, *mapping: str, name: str = "ESH23.csv", **settings: object) -> pl.DataFrame:
    (folder / name).write_text(text)
    config = IngestConfig(**{"mapping": mapping, "label_side": "start", "timezone": "UTC", **settings})
    source = discover(folder, ES, config).contracts["ESH23"][0]
    assert source.reader == "generic"
    return pl.concat(READERS["generic"].batches(source, ES, config))


def test_columns_by_position_in_a_file_without_a_header(tmp_path: Path) -> None:
    text = "2023-03-08 15:30:00,4000,4001,3999.5,4000.5,100\n2023-03-08 15:31:00,4000,4001,3999.5,4000.5,101\n"
    found = rows(tmp_path, text, *BY_POSITION)
    assert found.select("open", "high", "low", "close", "volume").rows() == [
        (4000.0, 4001.0, 3999.5, 4000.5, 100),
        (4000.0, 4001.0, 3999.5, 4000.5, 101),
    ]
    assert found["line"].to_list() == [1, 2]


def test_columns_by_position_pass_over_a_header_of_words(tmp_path: Path) -> None:
    found = rows(tmp_path, "When,O,H,L,C,V,x\n2023-03-08 15:30,4000,4001,3999.5,4000.5,100,\n", *BY_POSITION)
    assert found.select("line", "volume").rows() == [(2, 100)]


def test_columns_by_position_leave_the_files_of_vendors_alone(tmp_path: Path) -> None:
    (tmp_path / "ES 06-23.Last.txt").write_text("20230308 150100;4000;4001;3999.5;4000.5;101\n")
    (tmp_path / "ESU23.csv").write_text(
        "time,open,high,low,close,Plot,Volume\n1678289400,4000,4001,3999.5,4000.5,NaN,1\n"
    )
    (tmp_path / "ESH23.csv").write_text("2023-03-08 15:30:00,4000,4001,3999.5,4000.5,100\n")
    found = discover(tmp_path, ES, IngestConfig(mapping=BY_POSITION, label_side="start", timezone="UTC"))
    readers = {code: sources[0].reader for code, sources in found.contracts.items()}
    assert readers == {"ESH23": "generic", "ESM23": "ninjatrader", "ESU23": "tradingview"}


@pytest.mark.parametrize("mapping", [(*BY_POSITION[:5], "volume=Volume"), ("timestamp=0", *BY_POSITION[1:])])
def test_names_and_positions_do_not_mix(mapping: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="positions from 1 for every role"):
        rows(tmp_path, "a,b\n", *mapping)


def test_volume_is_the_sum_of_columns(tmp_path: Path) -> None:
    text = "Time,Open,High,Low,Close,Up,Down\n2023-03-08 15:30,4000,4001,3999.5,4000.5,70,31\n"
    assert rows(tmp_path, text, *BY_NAME[:5], "volume=Up + Down")["volume"].to_list() == [101]
    assert rows(tmp_path, text, *BY_POSITION[:5], "volume=6+7")["volume"].to_list() == [101]


def test_volume_with_a_part_missing_is_no_volume(tmp_path: Path) -> None:
    line = "2023-03-08 15:{},4000,4001,3999.5,4000.5,{},{}\n"
    text = "Time,Open,High,Low,Close,Up,Down\n" + line.format(30, "", 31) + line.format(31, 70, 31)
    assert rows(tmp_path, text, *BY_NAME[:5], "volume=Up+Down")["volume"].to_list() == [None, 101]


def test_volume_is_the_sum_of_columns_in_parquet(tmp_path: Path) -> None:
    columns = {"Time": ["2023-03-08T15:30:00Z"], "Open": 4000.0, "High": 4001.0, "Low": 3999.5, "Close": 4000.5}
    pl.DataFrame(columns | {"Up": 70, "Down": 31}).write_parquet(tmp_path / "ESH23.parquet")
    config = IngestConfig(mapping=(*BY_NAME[:5], "volume=Up+Down"), label_side="start")
    source = discover(tmp_path, ES, config).contracts["ESH23"][0]
    assert pl.concat(READERS[source.reader].batches(source, ES, config))["volume"].to_list() == [101]


@pytest.mark.parametrize(
    ("separator", "line"),
    [
        ("semicolon", "08.03.2023;15:30;4000,00;4.001,00;3999,50;4000,5;1.100"),
        ("comma", '08.03.2023,15:30,"4000,00","4.001,00","3999,50","4000,5",1.100'),
    ],
)
def test_decimal_comma(separator: str, line: str, tmp_path: Path) -> None:
    mark = {"semicolon": ";", "comma": ","}[separator]
    text = mark.join(("Datum", "Zeit", "Auf", "Hoch", "Tief", "Schluss", "Volumen")) + f"\n{line}\n"
    options = (f"separator={separator}", "format=%d.%m.%Y %H:%M", "decimal=comma")
    found = rows(tmp_path, text, *GERMAN, *options).select("open", "high", "low", "close", "volume").rows()
    assert found == [(4000.0, 4001.0, 3999.5, 4000.5, 1100)]


GOOD = "2023-03-08 15:30,4000,4001,3999.5,4000.5,100"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("08.03.2023 15:30,4000,4001,3999.5,4000.5,100", r"a timestamp as %Y-.*'08\.03\.2023 15:30'.*Add the format"),
        (GOOD.replace("15:30", "15:30:17"), r"timestamps on whole minutes.*15:30:17.*one-minute bars"),
        (GOOD.replace("4001", "-"), r"a number as high; found '-'"),
        (GOOD.replace(",100", ",1.5"), r"a whole number as volume; found '1\.5'"),
        (GOOD.replace(",100", ""), r"6 fields separated by ','; found 5 fields"),
        (GOOD.replace(".5", ",5"), r"6 fields separated by ','; found more.*decimal=comma"),
    ],
)
def test_the_error_explains_the_first_row_if_no_row_can_be_read(line: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=f"line 2: expected {cause}"):
        rows(tmp_path, f"Time,Open,High,Low,Close,Volume\n{line}\n{line}\n", *BY_NAME)


def test_the_error_of_a_decimal_comma_names_its_setting(tmp_path: Path) -> None:
    text = "Datum;Zeit;Auf;Hoch;Tief;Schluss;Volumen\n08.03.2023;15:30;4000,00;4001,00;3999,50;4000,50;100\n"
    with pytest.raises(UnreadableFileError, match=r"a number as open; found '4000,00'.*Add decimal=comma"):
        rows(tmp_path, text, *GERMAN, *GERMAN_OPTIONS)


def test_the_error_explains_the_first_row_of_a_file_with_a_contract_column(tmp_path: Path) -> None:
    text = "Time,Open,High,Low,Close,Volume,Symbol\n2023-03-08 15:30,4000,4001,x,4000.5,100,ESH3\n"
    with pytest.raises(UnreadableFileError, match="a number as low; found 'x'"):
        rows(tmp_path, text, *BY_NAME, "contract=Symbol")


def test_the_error_explains_the_first_row_of_a_parquet_file(tmp_path: Path) -> None:
    columns = {"Time": ["8.3.2023"], "Open": 4000.0, "High": 4001.0, "Low": 3999.5, "Close": 4000.5, "Volume": 100}
    pl.DataFrame(columns).write_parquet(tmp_path / "ESH23.parquet")
    with pytest.raises(InputError, match=r"'8\.3\.2023'.*check ingest\.mapping and its format"):
        discover(tmp_path, ES, IngestConfig(mapping=BY_NAME, label_side="start", timezone="UTC"))
