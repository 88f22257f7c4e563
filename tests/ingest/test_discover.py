"""The contents of a delivery folder, and the reasons for unused files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vpoc_ml.artifacts.sources import Source, Span
from vpoc_ml.errors import MissingInputError, UnreadableFileError
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
    assert found.unreadable == ()


def test_other_files_are_listed_with_a_reason_and_vix_is_recognised(tmp_path: Path) -> None:
    files = {
        "ES 03-25.Last.txt": ROWS,
        "ES 06-25.Last.txt": "2023-03-08,3990.00,4003.25,3971.50,3995.00,1831712,2000062\n",
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
    assert "daily bars" in reasons["ES 06-25.Last.txt"]
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


def test_sub_folders_are_searched_but_neither_hidden_ones_nor_the_truth(tmp_path: Path) -> None:
    for folder in ("2025/march", ".cache", "truth"):
        (tmp_path / folder).mkdir(parents=True)
        fill(tmp_path / folder, {"ES 03-25.Last.txt": ROWS})
    assert [source.path for source in discover(tmp_path, ES).contracts["ESH25"]] == [
        tmp_path / "2025/march/ES 03-25.Last.txt"
    ]


def test_a_truncated_file_leaves_only_its_contract_out(tmp_path: Path) -> None:
    files = {"ES 03-25.Last.txt": ROWS, "ES 06-25.Last.txt": ROWS, "ES 06-25 early.txt": ROWS[:-4]}
    found = discover(fill(tmp_path, files), ES)
    assert list(found.contracts) == ["ESH25"]
    assert [(file.name, file.contracts) for file in found.unreadable] == [
        ("ES 06-25 early.txt", ("ESM25",)),
        ("ES 06-25.Last.txt", ()),
    ]
    assert found.unreadable[1].reason == "left out with ESM25, of which ES 06-25 early.txt cannot be used"
    assert "cut off or still being written" in found.unreadable[0].reason


def test_the_only_contract_truncated_raises_its_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="cut off or still being written") as caught:
        discover(fill(tmp_path, {"ES 03-25.Last.txt": ROWS[:-4], "notes.md": "# notes\n"}), ES)
    assert caught.value.line == 2


def test_contract_of_another_instrument_is_named(tmp_path: Path) -> None:
    found = discover(fill(tmp_path, {"ES 03-25.Last.txt": ROWS, "NQ 03-25.Last.txt": ROWS}), ES)
    assert (found.notes, found.unreadable) == (("NQ 03-25.Last.txt: bars of NQH25, not of ES",), ())
    (tmp_path / "ES 03-25.Last.txt").unlink()
    with pytest.raises(MissingInputError, match=r"bars of NQH25, not of ES\. .*; data\.instrument names"):
        discover(tmp_path, ES)


def test_contracts_of_another_instrument_in_one_file_are_named(tmp_path: Path) -> None:
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
    line = "2025-01-15T17:00:00.000000000Z,33,1,5482,6000,6000,6000,6000,5,{}\n"
    found = discover(fill(tmp_path, {"all.csv": head + line.format("ESH5") + line.format("NQH5")}), ES)
    assert list(found.contracts) == ["ESH25"]
    assert found.notes == ("all.csv: bars of NQH25, not of ES",)


@pytest.mark.parametrize("exists", [False, True])
def test_message_says_which_folder_was_searched_and_how_to_name_another(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    if exists:
        folder.mkdir()
    with pytest.raises(MissingInputError, match=r"at .*nowhere; .*--raw .*else raw/ of the lake"):
        discover(folder, ES)


def test_member_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ES 03-25.txt", ROWS)
        archive.writestr("ES 06-25.txt", ROWS)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"6152.25;10", b"6152.25;99", 1))
    found = discover(tmp_path, ES)
    assert list(found.contracts) == ["ESM25"]
    assert [file.name for file in found.unreadable] == ["all.zip:ES 03-25.txt"]


def test_sources_survive_json(tmp_path: Path) -> None:
    source = discover(fill(tmp_path, {"ES 03-25.Last.txt": ROWS}), ES).contracts["ESH25"][0]
    assert Source.model_validate_json(source.key) == source
    spanned = source.model_copy(
        update={"symbol": "ESH5", "span": Span(start=10, stop=90, line=2, carried="ESM5"), "member": "a/b.csv"}
    )
    assert Source.model_validate_json(spanned.key) == spanned


@pytest.mark.real
def test_real_lean_folder_gives_contracts_by_day_and_sets_daily_rows_apart(real_data: Path) -> None:
    found = discover(real_data / "es_lean", ES)
    assert {code: len(sources) for code, sources in found.contracts.items()} == {
        "ESZ13": 14, "ESH14": 10, "ESM14": 9, "ESU14": 4, "ESZ14": 4, "ESH20": 2, "ESM20": 2, "ESU20": 2,
    }  # fmt: skip
    assert [path.name for path in found.daily] == ["es_openinterest.zip", "es_trade.zip"]
    assert [file.name for file in found.unreadable] == ["LICENSE", "map_file_es.csv"]
