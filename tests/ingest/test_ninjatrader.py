"""The NinjaTrader reader: timestamps, line ends, malformed lines, truncated files, other formats."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import read_head
from vpoc_ml.ingest.merge import merge
from vpoc_ml.ingest.readers import ninjatrader
from vpoc_ml.market.instruments import instrument

GOOD = [
    "20241212 050100;6152.5;6152.5;6152.5;6152.5;9",
    "20241212 050200;6152.5;6153;6152.25;6152.75;10",
    "20241212 050300;6152.75;6153.25;6152.5;6153;3656",
]


def read(path: Path) -> pl.DataFrame:
    source = Source(path=path, reader="ninjatrader", contract="ESH25")
    return pl.concat(ninjatrader.READER.batches(source, instrument("ES"), IngestConfig()))


def looks_like(path: Path) -> bool:
    return ninjatrader.READER.recognises(read_head(path))


@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=["crlf", "lf"])
def test_rows_are_read_and_end_timestamps_become_start(write, end: str) -> None:
    rows = read(write(GOOD, end=end))
    assert rows.schema == {
        "ts": pl.Datetime("us", "UTC"),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Int64(),
        "line": pl.Int64(),
        "text": pl.String(),
    }
    assert rows.row(1) == (datetime(2024, 12, 12, 5, 1, tzinfo=UTC), 6152.5, 6153.0, 6152.25, 6152.75, 10, 2, GOOD[1])
    assert "END" in ninjatrader.__doc__
    assert "end of a bar" in ninjatrader.LAYOUT.note


@pytest.mark.parametrize(
    "bad",
    [
        "20241212 050200;6152.5;6153;6152.25;6152.75",
        "20241212 050200;6152.5;6153;6152.25;6152.75;10;1",
        "20241212 050200;6152,5;6153;6152.25;6152.75;10",
        "20241212 050200;6152.5;6153;6152.25;NaN;10",
        "20241212 050200;6152.5;6153;6152.25;6152.75;10.5",
        "20241212 050200;6152.5;6153;6152.25;6152.75;99999999999999999999",
        "20241312 050200;6152.5;6153;6152.25;6152.75;10",
        "20241212 050230;6152.5;6153;6152.25;6152.75;10",
        "2024-12-12 05:02;6152.5;6153;6152.25;6152.75;10",
    ],
)
def test_malformed_line_inside_keeps_its_number_and_text(write, bad: str) -> None:
    rows = read(write([GOOD[0], bad, GOOD[1], GOOD[2]]))
    assert rows["ts"].is_null().to_list() == [False, True, False, False]
    assert rows.row(1)[:6] == (None,) * 6
    assert rows.row(1)[6:] == (2, bad)


@pytest.mark.parametrize("cut", range(1, len(GOOD[2]) + 1))
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_file_cut_anywhere_in_its_last_line_is_refused(write, cut: int, end: str) -> None:
    path = write([*GOOD[:2], GOOD[2][:cut]], end=end, last="")
    with pytest.raises(
        UnreadableFileError, match=r"line 3: expected a last line .* Export the contract again"
    ) as caught:
        read(path)
    assert caught.value.line == 3


def test_last_line_cut_between_carriage_return_and_line_feed_is_refused(write) -> None:
    with pytest.raises(UnreadableFileError, match="line 3"):
        read(write(GOOD, last="\r"))


def test_malformed_last_line_is_refused_even_with_a_line_break(write) -> None:
    with pytest.raises(UnreadableFileError, match="line 4: expected a complete last row"):
        read(write([*GOOD, "20241212 0504"]))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["20061023;1377.25;1377.25;1377.25;1377.25;86"] * 3, "a NinjaTrader day export"),
        (["20180125 134539 2890000;88.54;88.54;88.545;1"] * 3, "a NinjaTrader tick export"),
        (["2023-03-08 00:00:00,4024.75,4025.50,4024.75,4025.00,307"] * 3, "2023-03-08"),
        (["DATE,OPEN,HIGH,LOW,CLOSE", "01/02/1990,17.24,17.24,17.24,17.24"], "DATE"),
        (["\x00\x01\x02"], "x00"),
    ],
)
def test_other_formats_are_refused_at_line_1(write, lines: list[str], found: str) -> None:
    with pytest.raises(UnreadableFileError, match=found) as caught:
        read(write(lines))
    assert caught.value.line == 1
    assert "yyyyMMdd HHmmss;open;high;low;close;volume" in str(caught.value)


def test_other_format_without_final_break_is_named_as_such(write) -> None:
    with pytest.raises(UnreadableFileError, match="a NinjaTrader day export"):
        read(write(["20061023;1377.25;1377.25;1377.25;1377.25;86"] * 3, last=""))


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ES 03-25.Last.txt").touch()
    with pytest.raises(UnreadableFileError, match="an empty file"):
        read(tmp_path / "ES 03-25.Last.txt")


def test_absent_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="Expected a NinjaTrader minute export"):
        read(tmp_path / "nothing.txt")


def test_five_minute_bars_are_refused(write, minutes, noon: datetime) -> None:
    lines = minutes(noon, 1000)
    path = write([line for n, line in enumerate(lines) if (n + 1) % 5 == 0])
    with pytest.raises(UnreadableFileError, match="one-minute bars"):
        merge([Source(path=path, reader="ninjatrader", contract="ESH25")], instrument("ES"), IngestConfig())


def test_content_decides_what_looks_like_an_export(write) -> None:
    assert looks_like(write(GOOD))
    assert not looks_like(write(["DATE,OPEN,HIGH,LOW,CLOSE"]))
    assert not looks_like(write([]))


@pytest.mark.real
def test_real_file_is_read_whole(real_data: Path) -> None:
    rows = read(real_data / "es_ninjatrader" / "ES 03-25.Last.txt")
    assert rows.height == 72_584
    assert rows["ts"].null_count() == 0
    assert rows["ts"][0] == datetime(2024, 12, 12, 5, 0, tzinfo=UTC)
    assert rows["volume"][-1] == 3656
