"""Bars of sessions without reviewed hours are left out with a note; they are no bad rows."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import resolve
from vpoc_ml.errors import QuarantineLimitError, UnreviewedSessionsError
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.row_filters import has_reviewed_bar, reviewed_rows
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")
CONFIG = resolve("smoke", {}).ingest
FIRST_OPEN = datetime(2012, 11, 18, 23, tzinfo=UTC)  # 17:00 Chicago of the Sunday before 2012-11-19


def write_bars(folder: Path, name: str, *days: date) -> Path:
    """Write a NinjaTrader file with the 60 bars from 15:00 to 15:59 UTC of each day, labelled by their end."""
    path = folder / name
    starts = [datetime(day.year, day.month, day.day, 15, tzinfo=UTC) for day in days]
    ends = [start + timedelta(minutes=minute) for start in starts for minute in range(1, 61)]
    path.write_text("".join(f"{end:%Y%m%d %H%M%S};1400;1400.5;1399.75;1400.25;100\r\n" for end in ends), newline="")
    return path


def build(path: Path, code: str):
    return build_bars(path, parse_contract(code), ES, None, CONFIG)


def test_rows_before_the_first_reviewed_session_are_left_out_and_counted_nowhere_else(tmp_path):
    days = [date(2012, 11, 14), date(2012, 11, 15), date(2012, 11, 16), date(2012, 11, 19), date(2012, 11, 20)]
    built = build(write_bars(tmp_path, "ES 12-12.Last.txt", *days), "ESZ12")
    assert built.bars["session"].unique().sort().to_list() == [date(2012, 11, 19), date(2012, 11, 20)]
    assert (built.rows_in, built.bars.height, built.quarantine.height, built.reasons) == (120, 120, 0, {})
    assert built.left_out == (
        "180 rows from 2012-11-14 to 2012-11-16 left out:"
        " calendar CME Globex Equity is reviewed for sessions from 2012-11-19 to 2032-12-31 only"
    )


def test_file_of_unreviewed_sessions_only_is_refused_with_the_first_reviewed_one(tmp_path):
    path = write_bars(tmp_path, "ES 03-11.Last.txt", date(2011, 1, 4), date(2011, 1, 5))
    with pytest.raises(UnreviewedSessionsError, match=r"from 2012-11-19 to 2032-12-31") as caught:
        build(path, "ESH11")
    assert (caught.value.first, caught.value.exit_code) == (date(2012, 11, 19), 5)


def test_first_reviewed_session_begins_with_its_open():
    timestamps = [FIRST_OPEN - timedelta(minutes=1), FIRST_OPEN, FIRST_OPEN + timedelta(minutes=1)]
    rows, left_out = reviewed_rows(pl.DataFrame({"ts": timestamps}), parse_contract("ESZ12"), ES)
    assert rows["ts"].to_list() == timestamps[1:]
    assert left_out.startswith("1 row from 2012-11-18 to 2012-11-18 ")


def test_last_reviewed_session_ends_with_its_close():
    close = datetime(2032, 12, 31, 22, tzinfo=UTC)  # 16:00 Chicago
    timestamps = [close - timedelta(minutes=1), close, datetime(2033, 1, 4, 15, tzinfo=UTC)]
    rows, left_out = reviewed_rows(pl.DataFrame({"ts": timestamps}), parse_contract("ESH33"), ES)
    assert rows["ts"].to_list() == timestamps[:1]
    assert left_out.startswith("2 rows from 2032-12-31 to 2033-01-04 ")


def test_impossible_timestamps_stay_bad_rows(tmp_path):
    absent = pl.Series("ts", [None, datetime(1970, 1, 1, tzinfo=UTC), datetime(2030, 1, 3, tzinfo=UTC)])
    rows, left_out = reviewed_rows(pl.DataFrame({"ts": absent}), parse_contract("ESZ12"), ES)
    assert (rows.height, left_out) == (3, "")
    path = write_bars(tmp_path, "ES 03-25.Last.txt", date(1999, 1, 5), date(2025, 1, 7))
    with pytest.raises(QuarantineLimitError, match="outside exchange hours: 60"):
        build(path, "ESH25")


@pytest.mark.parametrize(
    ("code", "days", "expected"),
    [
        ("ESH11", [date(2011, 1, 4)], False),
        ("ESZ12", [date(2012, 11, 15), date(2012, 11, 16)], False),
        ("ESZ12", [date(2012, 11, 16), date(2012, 11, 19)], True),
        ("ESH25", [date(2025, 1, 7)], True),
    ],
)
def test_has_reviewed_bar_by_expiry_or_by_reading(tmp_path, code, days, expected):
    source = Source(path=write_bars(tmp_path, "a.txt", *days), reader="ninjatrader", contract=code)
    assert has_reviewed_bar(source, parse_contract(code), ES, CONFIG) is expected


def test_a_file_that_cannot_be_read_may_have_reviewed_bars(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("no bars\n")
    assert has_reviewed_bar(
        Source(path=path, reader="ninjatrader", contract="ESZ12"), parse_contract("ESZ12"), ES, CONFIG
    )
