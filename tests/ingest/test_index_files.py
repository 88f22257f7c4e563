"""Files of the VIX and of other indices in every publisher's form: correct values, or an error with the reason."""

from __future__ import annotations

import gzip
import random
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError, UnreadableFileError, VpocError
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.vix.index_files import PublicationTime, identify_index, read_index
from vpoc_ml.market.instruments import instrument

DAYS = [date(2024, 1, 12), date(2024, 1, 16), date(2024, 1, 17)]
CLOSES = [12.7, 13.84, 14.79]

FORMS = {
    "yahoo": (
        "^VIX.csv",
        (
            "Date,Open,High,Low,Close,Adj Close,Volume\n"
            "2024-01-12,12.61,13.22,12.31,12.700000,12.700000,0\n"
            "2024-01-15,null,null,null,null,null,null\n"
            "2024-01-16,14.15,14.27,13.48,13.840000,13.840000,0\n"
            "2024-01-17,14.26,15.40,14.01,14.790000,14.790000,0"
        ),
    ),
    "yfinance": (
        "download.csv",
        (
            "Price,Close,High,Low,Open,Volume\nTicker,^VIX,^VIX,^VIX,^VIX,^VIX\nDate,,,,,\n"
            "2024-01-12,12.7,13.22,12.31,12.61,0\n2024-01-16,13.84,14.27,13.48,14.15,0\n2024-01-17,14.79,15.4,14.01,14.26,0\n"
        ),
    ),
    "yfinance by ticker, without the name of the dates": (
        "download.csv",
        (
            "Ticker,^VIX,^VIX,^VIX,^VIX\nPrice,Open,High,Low,Close\n"
            "2024-01-12,12.61,13.22,12.31,12.7\n2024-01-16,14.15,14.27,13.48,13.84\n2024-01-17,14.26,15.4,14.01,14.79\n"
        ),
    ),
    "yfinance with two tickers": (
        "download.csv",
        (
            "Price,Close,Close,Low,Low\nTicker,^VVIX,^VIX,^VVIX,^VIX\nDate,,,,\n"
            "2024-01-12,80.1,12.7,79.9,12.31\n2024-01-16,84.1,13.84,80.2,13.48\n2024-01-17,86.1,14.79,83.2,14.01\n"
        ),
    ),
    "yfinance history": (
        "vix.csv",
        (
            "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
            "2024-01-12 00:00:00-06:00,12.61,13.22,12.31,12.7,0,0.0,0.0\n"
            "2024-01-16 00:00:00-06:00,14.15,14.27,13.48,13.84,0,0.0,0.0\n"
            "2024-01-17 00:00:00-06:00,14.26,15.4,14.01,14.79,0,0.0,0.0\n"
        ),
    ),
    "history in UTC": (
        "vix.csv",
        (
            "Date,Close\n2024-01-12 06:00:00+00:00,12.7\n2024-01-16 06:00:00+00:00,13.84\n"
            "2024-01-17 06:00:00+00:00,14.79\n"
        ),
    ),
    "pandas without a name for the dates": (
        "vix.csv",
        (
            ",Open,High,Low,Close\n2024-01-12,12.61,13.22,12.31,12.7\n2024-01-16,14.15,14.27,13.48,13.84\n"
            "2024-01-17,14.26,15.4,14.01,14.79\n"
        ),
    ),
    "tradingview in seconds": (
        "CBOE_DLY_VIX, 1D.csv",
        (
            "time,open,high,low,close\n1705069800,12.61,13.22,12.31,12.7\n1705415400,14.15,14.27,13.48,13.84\n"
            "1705501800,14.26,15.4,14.01,14.79"
        ),
    ),
    "tradingview with dates and plots": (
        "TVC_VIX, 1D.csv",
        (
            "time,open,high,low,close,Volume,Volume MA\n2024-01-12,12.61,13.22,12.31,12.7,0,NaN\n"
            "2024-01-16,14.15,14.27,13.48,13.84,0,NaN\n2024-01-17,14.26,15.4,14.01,14.79,0,NaN"
        ),
    ),
    "investing": (
        "CBOE Volatility Index Historical Data.csv",
        (
            '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n'
            '"01/17/2024","14.79","14.26","15.40","14.01","","6.86%"\n'
            '"01/16/2024","13.84","14.15","14.27","13.48","","8.98%"\n'
            '"01/12/2024","12.70","12.61","13.22","12.31","","2.09%"\n'
        ),
    ),
    "investing with month names": (
        "vix_investing.csv",
        (
            '"Date","Price","Open","High","Low","Vol.","Change %"\n'
            '"Jan 17, 2024","14.79","14.26","15.40","14.01","-","6.86%"\n'
            '"Jan 16, 2024","13.84","14.15","14.27","13.48","-","8.98%"\n'
            '"Jan 12, 2024","12.70","12.61","13.22","12.31","-","2.09%"\n'
        ),
    ),
    "two-digit years, newest first": (
        "HistoricalPrices.csv",
        (
            "Date, Open, High, Low, Close\n01/17/24, 14.26, 15.40, 14.01, 14.79\n01/16/24, 14.15, 14.27, 13.48, 13.84\n"
            "01/12/24, 12.61, 13.22, 12.31, 12.70\n"
        ),
    ),
    "day, month name, two-digit year": (
        "vix.csv",
        "Date,Close/Last\n17-Jan-24,14.79\n16-Jan-24,13.84\n12-Jan-24,12.70\n",
    ),
    "google sheet": (
        "VIX - Sheet1.csv",
        "Date,Close\n1/12/2024 16:15:00,12.7\n1/16/2024 16:15:00,13.84\n1/17/2024 16:15:00,14.79\n",
    ),
    "stooq": (
        "^vix_d.csv",
        (
            "Date,Open,High,Low,Close,Volume\r\n2024-01-12,12.61,13.22,12.31,12.7,0\r\n"
            "2024-01-16,14.15,14.27,13.48,13.84,0\r\n2024-01-17,14.26,15.4,14.01,14.79,0\r\n"
        ),
    ),
    "stooq ascii": (
        "daily.txt",
        (
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\r\n"
            "^VIX,D,20240112,000000,12.61,13.22,12.31,12.7,0,0\r\n^VIX,D,20240116,000000,14.15,14.27,13.48,13.84,0,0\r\n"
            "^VIX,D,20240117,000000,14.26,15.4,14.01,14.79,0,0\r\n"
        ),
    ),
    "fred": (
        "VIXCLS.csv",
        ("observation_date,VIXCLS\n2024-01-12,12.70\n2024-01-15,\n2024-01-16,13.84\n2024-01-17,14.79\n"),
    ),
    "fred before 2024": (
        "fred.csv",
        ("DATE,VIXCLS\n2024-01-12,12.70\n2024-01-15,.\n2024-01-16,13.84\n2024-01-17,14.79\n"),
    ),
    "fred with two series": (
        "fredgraph.csv",
        "observation_date,VXNCLS,VIXCLS\n2024-01-12,16.1,12.70\n2024-01-16,17.2,13.84\n2024-01-17,18.0,14.79\n",
    ),
    "cboe": (
        "VIX_History.csv",
        (
            "DATE,OPEN,HIGH,LOW,CLOSE\r\n01/12/2024,12.610000,13.220000,12.310000,12.700000\r\n"
            "01/16/2024,14.150000,14.270000,13.480000,13.840000\r\n01/17/2024,14.260000,15.400000,14.010000,14.790000\r\n"
        ),
    ),
    "cboe before 2020": (
        "vixcurrent.csv",
        (
            '"* This methodology is the property of Cboe",,,,\nDate,VIX Open,VIX High,VIX Low,VIX Close\n'
            "1/12/2024,12.61,13.22,12.31,12.70\n1/16/2024,14.15,14.27,13.48,13.84\n1/17/2024,14.26,15.40,14.01,14.79\n"
        ),
    ),
    "barchart": (
        "$vix_daily.csv",
        (
            "Symbol,Time,Open,High,Low,Last,Change,%Chg,Volume\n$VIX,2024-01-17,14.26,15.40,14.01,14.79,0.95,+6.86%,0\n"
            "$VIX,2024-01-16,14.15,14.27,13.48,13.84,1.14,+8.98%,0\n$VIX,2024-01-12,12.61,13.22,12.31,12.70,0.26,+2.09%,0\n"
            '"Downloaded from Barchart.com as of 01-18-2024 07:59am CST"\n'
        ),
    ),
    "decimal comma, semicolons, dotted dates": (
        "vix.csv",
        (
            "Date;Open;High;Low;Close\n12.01.2024;12,61;13,22;12,31;12,7\n16.01.2024;14,15;14,27;13,48;13,84\n"
            "17.01.2024;14,26;15,40;14,01;14,79\n"
        ),
    ),
    "many symbols in one file": (
        "indices.csv",
        "symbol,date,close\nVVIX,2024-01-12,80.1\nVIX,2024-01-12,12.7\nVIX,2024-01-16,13.84\nVIX,2024-01-17,14.79\n",
    ),
}


def save(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_publishers_form_gives_the_same_closes(tmp_path: Path, form: str) -> None:
    path = save(tmp_path, *FORMS[form])
    values = read_index(path)
    assert values["date"].to_list() == DAYS
    assert values["close"].to_list() == CLOSES
    assert values["available_at"].to_list() == [datetime(*day.timetuple()[:3], 21, 15, tzinfo=UTC) for day in DAYS]
    assert identify_index(path.name, path.read_text("utf-8-sig").splitlines(), IngestConfig()) == "VIX"


@pytest.mark.parametrize("form", FORMS)
def test_raw_folder_finds_every_form_beside_the_prices(tmp_path: Path, form: str) -> None:
    save(tmp_path, "ES 03-24.Last.txt", "20240112 150100;4800;4800.5;4799.75;4800;9\r\n")
    path = save(tmp_path, *FORMS[form])
    found = discover(tmp_path, instrument("ES"))
    assert list(found.vix) == [path]
    assert found.unreadable == ()


def test_packed_files_are_read(tmp_path: Path) -> None:
    text = FORMS["cboe"][1]
    (tmp_path / "VIX.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "indices.zip", "w") as archive:
        archive.writestr("VVIX_History.csv", "DATE,VVIX\n01/12/2024,80.1\n")
        archive.writestr("VIX_History.csv", text)
    assert read_index(tmp_path / "VIX.csv.gz")["close"].to_list() == CLOSES
    assert read_index(tmp_path / "indices.zip")["close"].to_list() == CLOSES


WHOLE = "DATE,OPEN,HIGH,LOW,CLOSE\n2024-01-12,12.61,13.22,12.31,12.70\n2024-01-16,14.15,14.27,13.48,13.84\n"


@pytest.mark.parametrize("kept", range(WHOLE.index("2024-01-16") + 1, len(WHOLE) - 2))
def test_file_cut_off_anywhere_in_its_last_row_is_refused(tmp_path: Path, kept: int) -> None:
    with pytest.raises(UnreadableFileError) as caught:
        read_index(save(tmp_path, "VIX_History.csv", WHOLE[:kept]))
    assert caught.value.line == 3


@pytest.mark.parametrize("form", FORMS)
def test_no_cut_of_any_form_leaves_a_value_that_was_not_there(tmp_path: Path, form: str) -> None:
    name, text = FORMS[form]
    raw = text.encode()
    for kept in range(len(raw) - len(raw.splitlines()[-1]) - 9, len(raw), 3):
        (tmp_path / name).write_bytes(raw[:kept])
        try:
            values = read_index(tmp_path / name)
        except UnreadableFileError:
            continue
        wrong = set(values.select("date", "close").rows()) - set(zip(DAYS, CLOSES, strict=True))
        within_the_days_range = all(14.01 <= close <= 15.4 for _, close in wrong)
        assert not wrong or (form == "tradingview in seconds" and within_the_days_range), (kept, wrong)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_raise_nothing_but_typed_errors(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    draw = random.Random(seed)
    refused = 0
    for _ in range(60):
        name, text = FORMS[draw.choice(list(FORMS))]
        raw = bytearray(text.encode())
        for _ in range(draw.choice((1, 2, 8))):
            at = draw.randrange(len(raw))
            raw[at : at + draw.randrange(3)] = bytes(draw.choice(b"0123456789,.-/: +Z\n\x00\xff") for _ in range(2))
        (tmp_path / name).write_bytes(raw)
        identify_index(name, raw.decode(errors="replace").splitlines(), IngestConfig())
        try:
            assert read_index(tmp_path / name)["close"].is_between(5, 200).all()
        except VpocError:
            refused += 1
    assert refused


def test_whole_last_row_without_a_line_break_is_read(tmp_path: Path) -> None:
    assert read_index(save(tmp_path, "VIX_History.csv", WHOLE[:-1])).height == 2


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        ("DATE,CLOSE\n2024-01-12,12.70\n2024-01-16,1", "line break", 3),
        ("DATE,CLOSE\n2024-01-12,12.70\n2024-01-16,13.8", "line break", 3),
        ("DATE,CLOSE\n2024-01-12,12.70\n2024-01-16,", "line break", 3),
        ("observation_date,VIXCLS\n2024-01-12,12.70\n2024-01-16", "2 fields", 3),
        ("Close,Date\n12.70,2024-01-12\n13.84,2024-01-1", "line break", 3),
        ("time,open,high,low,close\n2024-01-12,12.61,13.22,12.31,12.7\n2024-01-16,14.15,14.27,13.48,1", "the VIX", 3),
        ("time,open,high,low,close\n2024-01-12,12.61,13.22,12.31,12.7\n2024-01-16,14.15,14.27,13.48,13.", "break", 3),
        ("time,open,high,low,close\n2024-01-12,12.61,13.22,12.31,12.7\n2024-01-16,14.15,14.27,13.48,13", "low and", 3),
        ("DATE,OPEN,CLOSE\n2024-01-12,12.61\n2024-01-16,14.15,13.84\n", "3 fields", 2),
        ("DATE,OPEN,CLOSE\n2024-01-12,12.61,12.702024-01-16,14.15,13.84\n2024-01-17,14.2,14.79\n", "3 fields", 2),
        ("DATE,OPEN,CLOSE\n2024-01-12,12.61,\n2024-01-16,14.15,13.84\n", "a close of VIX beside", 2),
        ("DATE,HIGH,LOW,CLOSE\n2024-01-12,13.22,12.31,7.70\n2024-01-16,14.27,13.48,13.84\n", "low and high", 2),
        ("DATE,CLOSE\n2024-01-12,12.70\n2024-01-16,1.384\n2024-01-17,14.79\n", "5 to 200", 3),
        ("DATE,CLOSE\n2024-01-11,12.44\n2024-01-12,12.70\n2024-01-16,6.84\n2024-01-17,14.79\n", "a factor of 1.8", 4),
        ('DATE,CLOSE\n2024-01-12,12.70\n"2024-01-16,13.84\n2024-01-17,14.79\n', "2 fields", 4),
    ],
)
def test_truncated_rows_and_their_traces_are_refused(tmp_path: Path, text: str, expected: str, line: int) -> None:
    with pytest.raises(UnreadableFileError, match=expected) as caught:
        read_index(save(tmp_path, "VIX_History.csv", text))
    assert caught.value.line == line


def shifted(days: int, step: int = 1) -> str:
    """A month of closes with every date moved by some days."""
    dates = [date(2024, 1, 2) + timedelta(days=n) for n in range(0, 30, step)]
    trading = [day for day in dates if day.weekday() < 5]
    return "DATE,CLOSE\n" + "".join(f"{day + timedelta(days=days)},{13 + n % 3}.50\n" for n, day in enumerate(trading))


@pytest.mark.parametrize("days", [-1, 1])
def test_dates_a_day_early_or_late_are_refused_for_their_weekends(tmp_path: Path, days: int) -> None:
    assert read_index(save(tmp_path, "VIX.csv", shifted(0))).height == 22
    with pytest.raises(UnreadableFileError, match=r"values of weekends.*a day early or late"):
        read_index(save(tmp_path, "VIX.csv", shifted(days)))


OTHERS = {
    "Cboe's VVIX by its column": ("history.csv", "DATE,VVIX\n01/12/2024,80.1\n01/16/2024,84.1\n", "VVIX"),
    "VVIX by the file's name": ("VVIX_History.csv", "DATE,OPEN,CLOSE\n01/12/2024,30.1,30.2\n", "VVIX"),
    "VXN by the file's name": ("VXN_History.csv", "DATE,OPEN,HIGH,LOW,CLOSE\n01/12/2024,16,17,15,16.1\n", "VXN"),
    "VXN by FRED's column": ("vix.csv", "observation_date,VXNCLS\n2024-01-12,16.1\n", "VXN"),
    "VIX9D by its ticker": ("vix.csv", "Price,Close,Low\nTicker,^VIX9D,^VIX9D\nDate,,\n2024-01-12,11.2,11\n", "VIX9D"),
    "S&P 500 by its name": ("SPX.csv", "Date,Open,High,Low,Close\n2024-01-12,4791,4802,4768,4783.83\n", "SPX"),
    "VIX3M by a symbol column": ("vix.csv", "symbol,date,close\nVIX3M,2024-01-12,15.1\n", "VIX3M"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_index_never_passes_as_the_vix(tmp_path: Path, case: str) -> None:
    name, text, symbol = OTHERS[case]
    path = save(tmp_path, name, text)
    with pytest.raises(UnreadableFileError, match=f"values of VIX; found those of {symbol}"):
        read_index(path)
    save(tmp_path, "ES 03-24.Last.txt", "20240112 150100;4800;4800.5;4799.75;4800;9\r\n")
    found = discover(tmp_path, instrument("ES"))
    assert not found.vix
    assert [(file.name, file.reason.partition(",")[0]) for file in found.unreadable] == [(name, f"values of {symbol}")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history.csv", "Date,Open,High,Low,Close\n2024-01-12,4791,4802,4768,4783.83\n"),
        ("history.csv", "Date,Open,High,Low,Close\n2024-01-12,80,82,79,80.1\n2024-01-16,82,86,81,84.2\n"),
        ("CLH24.csv", "Date,Open,High,Low,Close\n2024-01-12,41.5,42,40,41\n"),
        (
            "ESM24.txt",
            '"Date","Time","Open","High","Low","Close","Up","Down"\n01/12/2024,09:31,12,13,12,13,4,3\n',
        ),
        ("vix futures.csv", "Date,Open,High,Low,Close,Vol\n2024-01-12,14.5,15,14,14.8,4512\n"),
        ("history.csv", "Date,Time,Open,High,Low,Close\n2024-01-12,09:31,14,15,14,14\n2024-01-12,09:32,14,15,14,14\n"),
    ],
)
def test_prices_and_unnamed_closes_of_another_size_are_not_taken_for_the_vix(name: str, text: str) -> None:
    assert identify_index(name, text.splitlines(), IngestConfig()) is None


def test_own_columns_are_read_by_the_mapping(tmp_path: Path) -> None:
    text = "Datum;Zuletzt;Umsatz\n17/01/2024;14,79;5\n16/01/2024;13,84;7\n12/01/2024;12,7;9\n"
    path = save(tmp_path, "kurse.csv", text)
    with pytest.raises(UnreadableFileError, match=r"ingest\.vix_mapping"):
        read_index(path)
    mapping = ("date=Datum", "close=Zuletzt", "separator=semicolon", "decimal=comma", "format=%d/%m/%Y")
    values = read_index(path, config=IngestConfig(vix_mapping=mapping))
    assert (values["date"].to_list(), values["close"].to_list()) == (DAYS, CLOSES)


def test_mapping_finds_its_file_in_the_raw_folder_and_takes_no_price_file(tmp_path: Path) -> None:
    prices = "Datum,Zeit,Schluss,Volume\n12.01.2024,15:30,4800.25,9\n"
    save(tmp_path, "ES 03-24.Last.txt", "20240112 150100;4800;4800.5;4799.75;4800;9\r\n")
    save(tmp_path, "ESH24.csv", prices.replace(",Volume", "").replace(",9\n", "\n"))
    save(tmp_path, "kontrakt.csv", prices)
    own = save(tmp_path, "index.csv", "Datum,Zeit,Schluss\n12.01.2024,15:30,12.7\n12.01.2024,15:31,12.8\n")
    config = IngestConfig(vix_mapping=("date=Datum", "time=Zeit", "close=Schluss"), timezone="vix=Europe/Berlin")
    assert list(discover(tmp_path, instrument("ES"), config).vix) == [own]
    known = read_index(own, config=config)["available_at"].to_list()
    assert known == [datetime(2024, 1, 12, 14, minute, tzinfo=UTC) for minute in (31, 32)]


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        (("date=Datum",), "a column for date and for close"),
        (("datum=Datum",), "role=column"),
        (("date=D", "close=C", "separator=dot"), "separator= one of"),
        (("date=D", "close=C", "decimal=dot"), "decimal= one of"),
    ],
)
def test_impossible_mapping_is_refused(tmp_path: Path, mapping: tuple[str, ...], match: str) -> None:
    with pytest.raises(InvalidValueError, match=match):
        read_index(save(tmp_path, "VIX.csv", WHOLE), config=IngestConfig(vix_mapping=mapping))


def test_order_of_slashed_dates_can_be_set(tmp_path: Path) -> None:
    path = save(tmp_path, "VIX.csv", "Date,Close\n02/01/2024,13.2\n03/01/2024,14.04\n")
    with pytest.raises(UnreadableFileError, match=r"day first as well.*ingest\.date_order"):
        read_index(path)
    days = read_index(path, config=IngestConfig(date_order="day_first"))["date"].to_list()
    assert days == [date(2024, 1, 2), date(2024, 1, 3)]


INTRADAY = {
    "offset": (
        "VIX_1min.csv",
        "Datetime,Close\n2024-01-12 09:31:00-05:00,12.7\n2024-01-12 09:32:00-05:00,12.8\n",
    ),
    "seconds": (
        "CBOE_DLY_VIX, 1.csv",
        "time,open,high,low,close\n1705069860,12,13,12,12.7\n1705069920,12,13,12,12.8\n",
    ),
    "without a zone": ("vix.csv", "Date,Time,Close\n01/12/2024,08:31,12.7\n01/12/2024,08:32,12.8\n"),
}


@pytest.mark.parametrize("form", INTRADAY)
def test_value_within_the_day_is_known_at_the_end_of_its_interval(tmp_path: Path, form: str) -> None:
    config = IngestConfig(timezone="vix=America/Chicago", date_order="month_first")
    values = read_index(save(tmp_path, *INTRADAY[form]), config=config)
    assert values["close"].to_list() == [12.7, 12.8]
    assert values["date"].to_list() == [date(2024, 1, 12)] * 2
    assert values["available_at"].to_list() == [datetime(2024, 1, 12, 14, minute, tzinfo=UTC) for minute in (32, 33)]


def test_times_within_the_day_need_a_zone(tmp_path: Path) -> None:
    path = save(tmp_path, "vix.csv", "Date,Time,Close\n2024-01-12,08:31,12.7\n2024-01-12,08:32,12.8\n")
    with pytest.raises(UnreadableFileError, match=r"ingest\.timezone"):
        read_index(path)


def test_other_index_is_read_by_name_and_known_at_its_publication(tmp_path: Path) -> None:
    path = save(tmp_path, "rates.csv", "observation_date,DGS10,DGS2\n2024-01-12,3.96,4.14\n2024-01-16,4.07,-0.02\n")
    values = read_index(path, "DGS2", published=PublicationTime(time(8, 30), 1))
    assert values["close"].to_list() == [4.14, -0.02]
    assert values["available_at"].to_list() == [datetime(2024, 1, day, 13, 30, tzinfo=UTC) for day in (15, 17)]


@pytest.mark.real
@pytest.mark.parametrize("form", ["%m/%d/%Y", "%m/%d/%y", "%b %d, %Y", "%Y%m%d", "%Y-%m-%d 00:00:00-06:00"])
def test_real_history_is_the_same_in_every_form_of_its_dates(real_data: Path, tmp_path: Path, form: str) -> None:
    path = real_data / "vix" / "vix-daily.csv"
    table = pl.read_csv(path, try_parse_dates=True).sort("DATE", descending=True)
    table.with_columns(pl.col("DATE").dt.strftime(form)).write_csv(tmp_path / "vix.csv", quote_style="always")
    assert read_index(tmp_path / "vix.csv").equals(read_index(path))
