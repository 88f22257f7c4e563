"""What a delivery folder holds, and why files are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpoc_ml.errors import MissingInputError
from vpoc_ml.ingest.discover import discover
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")
ROWS = "20241212 050100;6152.5;6152.5;6152.5;6152.5;9\r\n20241212 050200;6152.5;6152.5;6152.25;6152.25;10\r\n"


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder


def test_contracts_are_found_in_order_of_expiry(tmp_path: Path) -> None:
    found = discover(fill(tmp_path, {"ES 12-25.Last.txt": ROWS, "ES 03-25.Last.txt": ROWS, "ESM25.txt": ROWS}), ES)
    assert list(found.contracts) == ["ESH25", "ESM25", "ESZ25"]
    assert found.contracts["ESH25"][0].path.name == "ES 03-25.Last.txt"
    assert found.unreadable == []


def test_other_files_are_listed_with_a_reason_and_vix_is_recognised(tmp_path: Path) -> None:
    files = {
        "ES 03-25.Last.txt": ROWS,
        "ES 06-25.Last.txt": "2023-03-08 00:00:00,4024.75,4025.50,4024.75,4025.00,307\n",
        "ES 13-25.Last.txt": ROWS,
        "notes.md": "# notes\n",
        "empty.txt": "",
        "VIX_History.csv": "DATE,OPEN,HIGH,LOW,CLOSE\n01/02/1990,17.24,17.24,17.24,17.24\n",
        "VIXCLS.csv": "observation_date,VIXCLS\n1990-01-02,17.24\n",
        ".hidden": "x",
    }
    (tmp_path / "truth").mkdir()
    found = discover(fill(tmp_path, files), ES)
    assert list(found.contracts) == ["ESH25"]
    assert [file.name for file in found.unreadable] == [
        "ES 06-25.Last.txt",
        "ES 13-25.Last.txt",
        "empty.txt",
        "notes.md",
    ]
    reasons = {file.name: file.reason for file in found.unreadable}
    assert "NinjaTrader minute export" in reasons["ES 06-25.Last.txt"]
    assert "Expected a futures contract" in reasons["ES 13-25.Last.txt"]
    assert "an empty file" in reasons["empty.txt"]
    assert [path.name for path in found.vix] == ["VIXCLS.csv", "VIX_History.csv"]


def test_content_counts_more_than_the_name(tmp_path: Path) -> None:
    found = discover(fill(tmp_path, {"ES_H25.csv": ROWS, "ES 06-25.Last.txt": "hello\n"}), ES)
    assert list(found.contracts) == ["ESH25"]
    assert [file.name for file in found.unreadable] == ["ES 06-25.Last.txt"]


def test_several_files_of_one_contract_are_its_sources(tmp_path: Path) -> None:
    found = discover(fill(tmp_path, {"ES 03-25.Last.txt": ROWS, "ESH25.txt": ROWS}), ES)
    assert [source.name for source in found.contracts["ESH25"]] == ["ES 03-25.Last.txt", "ESH25.txt"]


def test_absent_and_empty_folders_are_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="a folder with price files of ES"):
        discover(tmp_path / "nowhere", ES)
    with pytest.raises(MissingInputError, match="Expected price files of ES"):
        discover(tmp_path, ES)


def test_nothing_readable_names_every_file_and_reason(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"a\.txt: expected .* 'hello'\. b\.txt: expected .* an empty file\."):
        discover(fill(tmp_path, {"a.txt": "hello\n", "b.txt": ""}), ES)


@pytest.mark.real
def test_real_folder_holds_one_contract(real_data: Path) -> None:
    assert list(discover(real_data / "es_ninjatrader", ES).contracts) == ["ESH25"]
