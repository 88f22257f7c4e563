"""Packed files that expand beyond the limit are refused before memory is filled, with the name of the limit."""

from __future__ import annotations

import gzip
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ExpansionLimitError, MissingInputError
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.file_streams import hash_content, open_unpacked
from vpoc_ml.ingest.roll_inputs import read_open_interest
from vpoc_ml.ingest.vix.index_files import read_index
from vpoc_ml.market.instruments import instrument

pytestmark = pytest.mark.slow

ES = instrument("ES")
LINE = b"20230308 150100;4000;4001;3999.5;4000.5;101\n"
ZEROS = bytes(2**20)
MIB = 300
"""Above the 256 MiB that are never refused."""


def gzip_bomb(folder: Path) -> Path:
    path = folder / "ES 03-23.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(LINE)
        for _ in range(MIB):
            stream.write(ZEROS)
    return path


def zstandard_bomb(folder: Path) -> Path:
    path = folder / "ES 03-23.txt.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(LINE)
        for _ in range(MIB):
            stream.write(ZEROS)
    return path


def zip_bomb(folder: Path) -> Path:
    path = folder / "bars.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part in range(3):
            with archive.open(f"ES 0{3 + 3 * part}-23.txt", "w") as stream:
                stream.write(LINE)
                for _ in range(MIB // 3):
                    stream.write(ZEROS)
    return path


def parquet_bomb(folder: Path) -> Path:
    """A footer that claims ten million equal rows."""
    path = folder / "ESH23.parquet"
    pl.DataFrame({"Time": ["2023-03-08T15:30:00Z"]}).select(
        pl.col("Time").repeat_by(10_000_000).explode(), *(pl.lit(4000.0).alias(name) for name in "OHLC"), V=pl.lit(1)
    ).write_parquet(path, row_group_size=10_000_000)
    return path


BOMBS = [gzip_bomb, zstandard_bomb, zip_bomb, parquet_bomb]
SETTINGS = {
    "mapping": ("timestamp=Time", "open=O", "high=H", "low=L", "close=C", "volume=V"),
    "label_side": "start",
    "timezone": "UTC",
}


@pytest.mark.parametrize("make", BOMBS)
def test_packed_file_is_refused_by_what_it_expands_to(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ExpansionLimitError, match=r"at most 2\d\d MiB .*raise ingest\.expansion_limit") as caught:
        discover(tmp_path, ES, IngestConfig(**SETTINGS))
    assert path.name in caught.value.path
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024, "KiB above what making it took"


SIDE_FILES = {
    "VIX_History.csv": (b"DATE,CLOSE\n01/12/2024,12.70\n", read_index),
    "es_openinterest_202403.csv": (b"20240312 00:00,1701691\n", lambda path: read_open_interest(path, ES)),
}


@pytest.mark.parametrize("packing", ["gz", "zst", "zip"])
@pytest.mark.parametrize("name", SIDE_FILES)
def test_files_of_indices_and_open_interest_have_the_limit_too(name: str, packing: str, tmp_path: Path) -> None:
    content, read = SIDE_FILES[name]
    path = tmp_path / f"{name}.{packing}"
    content += b" " * 2**20 * MIB
    if packing == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(name, content)
    elif packing == "gz":
        path.write_bytes(gzip.compress(content, compresslevel=1))
    else:
        path.write_bytes(pa.compress(content, "zstd", asbytes=True))
    with pytest.raises(ExpansionLimitError, match=r"at most 2\d\d MiB .*raise ingest\.expansion_limit"):
        read(path)


def test_raised_limit_lets_the_archive_of_an_index_pass(tmp_path: Path) -> None:
    path = tmp_path / "indices.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("VIX_History.csv", b"DATE,CLOSE\n01/31/2024,14.35")
        archive.writestr("SKEW_History.csv", b"\0" * 2**20 * MIB)
    with pytest.raises(ExpansionLimitError):
        read_index(path)
    assert read_index(path, config=IngestConfig(expansion_limit=100_000))["close"].to_list() == [14.35]


def test_limit_is_a_setting(tmp_path: Path) -> None:
    path = gzip_bomb(tmp_path)
    with open_unpacked(path, ratio=100_000.0) as stream:
        assert sum(map(len, iter(lambda: stream.read(2**20), b""))) == len(LINE) + MIB * 2**20
    assert len(hash_content(path)) == 64, "a file that has been listed is hashed whatever it expands to"


def test_small_file_of_equal_rows_is_never_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "ES 03-23.txt.gz", "wb") as stream:
        stream.write(LINE * 300_000)
    assert list(discover(tmp_path, ES, IngestConfig(expansion_limit=1)).contracts) == ["ESH23"]


def test_archive_in_an_archive_in_an_archive_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "ES 03-23.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("ES 03-23.txt", LINE)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(inner, inner.name)
    inner.unlink()
    with pytest.raises(MissingInputError, match=r"all\.zip:ES 03-23\.zip: .*an archive in an archive"):
        discover(tmp_path, ES)
