"""Every file of a raw folder is read, set apart with a note, or listed with its reason."""

from __future__ import annotations

import gzip
import os
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import VpocError
from vpoc_ml.ingest.discover import Discovery, discover
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.instruments import instrument

from . import vendor_files as vendor

ES = instrument("ES")
BARS = pl.DataFrame(
    {
        "ts": [datetime(2025, 1, 15, 17, n, tzinfo=UTC) for n in range(5)],
        **{name: [6000.0] * 5 for name in vendor.VALUES[:4]},
        "volume": [1500] * 5,
    },
    schema_overrides={"ts": pl.Datetime("us", "UTC")},
)
PRICES = "ES 09-25.Last.txt"
ROWS = "".join(f"{line}\n" for line in vendor.ninjatrader(BARS)).encode()
HEADERS = [
    "Date,Time,Open,High,Low,Close,Up,Down",
    "Date,Time,Open,High,Low,Close,Vol,OI",
    "Date,Time,O,H,L,C,V",
    "Date,Close",
    "time,open,high,low,close",
    "symbol,time,open,high,low,close,volume",
    "DATE,OPEN,HIGH,LOW,CLOSE",
]
NAMES = ["ESH25", "NQM25", "VIX_History", "notes", "ES1!", "BTCH25", "ES 13-25"]


def texts(draw: random.Random) -> bytes:
    rows = ["01/15/2025,09:31,18.5,18.9,18.1,18.4,21,11", "2025-01-15,18.4", "1736960460,1,2,0.5,1", "hello"]
    lines = [draw.choice(HEADERS), *draw.choices(rows, k=draw.randrange(4))]
    return ("\n".join(lines) + draw.choice(["", "\n", "\n\n"])).encode()


def vendors(draw: random.Random) -> bytes:
    made = draw.choice(list(vendor.VENDORS.values()))
    data = "".join(line + made.end for line in made.lines(BARS)).encode()
    return data[: draw.choice([None, None, draw.randrange(len(data))])]


KINDS: list[Callable[[random.Random], bytes]] = [
    texts,
    vendors,
    lambda draw: draw.randbytes(draw.randrange(60)),
    lambda draw: gzip.compress(vendors(draw))[: draw.choice([None, -9])],
    lambda draw: b"",
]


def write(folder: Path, seed: int) -> None:
    """Write a folder of random files, archives and links."""
    draw = random.Random(seed)
    for number in range(draw.randrange(1, 6)):
        subfolder = folder / draw.choice(["", "2025", "2025/more"])
        subfolder.mkdir(parents=True, exist_ok=True)
        name = f"{draw.choice(NAMES)} {number}.{draw.choice(['csv', 'txt'])}"
        if draw.random() < 0.25:
            with zipfile.ZipFile(subfolder / f"{name}.zip", "w") as archive:
                for part in range(draw.randrange(3)):
                    archive.writestr(f"{draw.choice(NAMES)} {part}.csv", draw.choice(KINDS)(draw))
        elif draw.random() < 0.1:
            (subfolder / name).symlink_to(draw.choice(["nowhere", "."]))
        else:
            (subfolder / name).write_bytes(draw.choice(KINDS)(draw))


def named(found: Discovery, folder: Path) -> set[str]:
    """Return the names of all files that a discovery mentions."""
    read = [source for sources in found.contracts.values() for source in sources]
    places = {f"{s.path.relative_to(folder)}{f':{s.member}' if s.member else ''}" for s in read}
    places |= {str(path.relative_to(folder)) for paths in found.indices.values() for path in paths}
    return places | {file.name for file in found.unreadable} | {note.rpartition(": ")[0] for note in found.notes}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_every_file_is_named(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("raw")
    write(folder, seed)
    (folder / PRICES).write_bytes(ROWS)
    found = discover(folder, ES, IngestConfig(date_order="month_first", timezone="America/Chicago"))
    mentioned = named(found, folder)
    for path in (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = str(path.relative_to(folder))
        assert name in mentioned or any(each.startswith(f"{name}:") for each in mentioned), f"seed {seed}"
        if path.is_file() and zipfile.is_zipfile(path):
            inner = zipfile.ZipFile(path).namelist()
            alone = name in mentioned
            assert alone or all(f"{name}:{member}" in mentioned for member in inner), f"seed {seed}"


def test_folder_that_cannot_be_opened_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / PRICES).write_bytes(ROWS)
    iterdir = Path.iterdir

    def refused(path: Path):
        if path.name == "private":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    found = discover(tmp_path, ES)
    assert [(file.name, file.reason) for file in found.unreadable] == [
        ("private", "a folder that cannot be opened: Permission denied")
    ]


def test_archive_without_files_broken_link_and_device_are_listed(tmp_path: Path) -> None:
    (tmp_path / PRICES).write_bytes(ROWS)
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "round").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    assert {file.name: file.reason for file in discover(tmp_path, ES).unreadable} == {
        "empty.zip": "an archive without files",
        "gone.txt": "no file: a broken link or a device",
        "pipe": "no file: a broken link or a device",
        "round": "a link to a folder that holds it",
    }


@pytest.mark.parametrize("name", vendor.VENDORS)
@pytest.mark.parametrize("reader", READERS)
def test_any_reader_set_by_hand_reads_a_file_or_raises_a_typed_error(reader: str, name: str, tmp_path: Path) -> None:
    made = vendor.VENDORS[name]
    path = made.write(tmp_path, BARS)
    forced = IngestConfig(reader=reader, timezone="UTC", date_order="month_first")
    rows, refused = 0, ""
    try:
        for source in discover(tmp_path, ES, forced).contracts["ESH25"]:
            rows += pl.concat(READERS[reader].batches(source, ES, forced))["ts"].count()
    except VpocError as error:
        refused = str(error)
    assert rows or path.name in refused or "ingest.mapping" in refused


def test_sierra_reader_set_by_hand_takes_a_column_named_close(tmp_path: Path) -> None:
    text = "Date, Time, Open, High, Low, Close, Volume\n2025/1/15, 11:00:00, 6000, 6001, 5999, 6000.5, 15\n"
    (tmp_path / "ESH25.txt").write_text(text)
    config = IngestConfig(reader="sierra_text", timezone="America/Chicago")
    source = discover(tmp_path, ES, config).contracts["ESH25"][0]
    rows = pl.concat(READERS["sierra_text"].batches(source, ES, config))
    assert rows.select("ts", "close", "volume").row(0) == (BARS["ts"][0], 6000.5, 15)


def test_sierra_reader_set_by_hand_names_a_column_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "ESH25.txt").write_text("Date, Time, Open, High, Low, Volume\n2025/1/15, 11:00:00, 1, 1, 1, 15\n")
    with pytest.raises(VpocError, match="close is missing"):
        discover(tmp_path, ES, IngestConfig(reader="sierra_text", timezone="America/Chicago"))


def test_minutes_of_a_reader_set_by_hand_are_not_later_than_written(tmp_path: Path) -> None:
    """The label side of TradeStation is the end of a bar."""
    vendor.VENDORS["tradestation"].write(tmp_path, BARS)
    config = IngestConfig(timezone="America/Chicago", date_order="month_first")
    source = discover(tmp_path, ES, config).contracts["ESH25"][0]
    rows = pl.concat(READERS[source.reader].batches(source, ES, config))
    assert rows["ts"].to_list() == BARS["ts"].to_list()
    later = pl.concat(READERS[source.reader].batches(source, ES, config.model_copy(update={"label_side": "start"})))
    assert later["ts"][0] - rows["ts"][0] == timedelta(minutes=1)
