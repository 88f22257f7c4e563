"""The end of a text: complete without a line break, blank lines, and truncated files."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InputError, UnreadableFileError
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.discover import discover
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

ES, ESH23 = instrument("ES"), parse_contract("ESH23")
HEADER = "time,open,high,low,close,Volume"
ROWS = [f"2023-03-08T09:{30 + n}:00-06:00,4000,4001,3999.5,4000.5,{104 + 37 * n}" for n in range(20)]
MAPPING = ("timestamp=time", "open=open", "high=high", "low=low", "close=close", "volume=Volume")
OWN = {"mapping": MAPPING, "label_side": "start"}


@pytest.fixture
def vix(flat_vix: pl.DataFrame) -> pl.DataFrame:
    return flat_vix.with_columns(pl.col("date").dt.offset_by("-2y"), pl.col("available_at").dt.offset_by("-2y"))


def written(folder: Path, text: str, name: str = "CME_MINI_ESH2023, 1.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def volumes(folder: Path, vix: pl.DataFrame, **settings: object) -> list[int]:
    config = IngestConfig(**settings)
    built = build_bars(discover(folder, ES, config).contracts["ESH23"], ESH23, ES, vix, config)
    assert built.quarantine.is_empty()
    return built.bars["volume"].to_list()


@pytest.mark.parametrize("settings", [{}, OWN], ids=["tradingview", "own columns"])
def test_a_complete_file_without_a_last_line_break_is_read(settings, tmp_path: Path, vix) -> None:
    written(tmp_path, "\n".join([HEADER, *ROWS]))
    assert volumes(tmp_path, vix, **settings) == [104 + 37 * n for n in range(20)]


@pytest.mark.parametrize("settings", [{}, OWN], ids=["tradingview", "own columns"])
def test_every_cut_inside_the_last_row_but_one_digit_is_refused(settings, tmp_path: Path) -> None:
    text = "\n".join([HEADER, *ROWS])
    for lost in range(1, len(ROWS[-1])):
        written(tmp_path, text[:-lost])
        with pytest.raises(InputError, match="cut off or still being written"):
            discover(tmp_path, ES, IngestConfig(**settings))


def test_a_single_row_without_a_line_break_is_refused(tmp_path: Path) -> None:
    written(tmp_path, f"{HEADER}\n{ROWS[0]}")
    with pytest.raises(UnreadableFileError, match="a complete row like those before it"):
        discover(tmp_path, ES, IngestConfig(timezone="UTC"))


def test_random_cuts_never_give_a_wrong_bar(tmp_path: Path, vix) -> None:
    """Of rows with three digits of volume whatever is read is what was written."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw, text = random.Random(seed), "\n".join([HEADER, *ROWS])
    for _ in range(30):
        written(tmp_path, text[: draw.randrange(len(HEADER), len(text))])
        try:
            found = volumes(tmp_path, vix)
        except InputError:
            continue
        assert found == [104 + 37 * n for n in range(len(found))]


@pytest.mark.parametrize("end", ["\r\n", "\n\n\n", "\r\n \t\r\n", "\n   ", "\n\x1a"])
def test_blank_last_lines_are_no_rows(end: str, tmp_path: Path, vix) -> None:
    lines = [f"20230308 15{n:02d}00;4000;4001;3999.5;4000.5;{100 + n}" for n in range(1, 6)]
    written(tmp_path, "\n".join(lines) + "\n" + end, "ES 03-23.Last.txt")
    assert volumes(tmp_path, vix) == [101, 102, 103, 104, 105]


def test_blank_lines_between_rows_keep_the_numbers_of_lines(tmp_path: Path, vix) -> None:
    lines = [f"20230308 15{n:02d}00;4000;4001;3999.5;4000.5;{100 + n}" for n in range(1, 60)]
    lines[3:3] = ["", "broken", ""]
    written(tmp_path, "\n".join(lines) + "\n", "ES 03-23.Last.txt")
    config = IngestConfig(quarantine_limit=0.1)
    built = build_bars(discover(tmp_path, ES, config).contracts["ESH23"], ESH23, ES, vix, config)
    assert (built.rows_in, built.bars.height) == (60, 59)
    assert built.quarantine.select("line", "text").rows() == [(5, "broken")]
