"""Ticks and the instrument table."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpoc_ml.errors import InvalidValueError, MissingInputError, UnreadableFileError
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import contract_sessions, sessions
from vpoc_ml.market.instrument_files import INSTRUMENTS_VARIABLE, MONTH_CODES
from vpoc_ml.market.instruments import TICK_TOLERANCE, instrument, symbols

ES = instrument("ES")
CME = "CME Globex Equity"


def off_grid(prices: np.ndarray, tick: float) -> float:
    """Return the largest distance from the tick grid in ticks."""
    return float(np.max(np.abs(prices / tick - np.rint(prices / tick)), initial=0.0))


def test_es_is_as_the_exchange_specifies() -> None:
    assert (ES.tick_size, ES.point_value, ES.tick_value) == (0.25, 50.0, 12.5)
    assert ES.calendar == "CME Globex Equity"
    assert ES.months == ("H", "M", "U", "Z")
    assert "ES" in symbols()


@given(st.lists(st.integers(-(10**6), 10**6)))
def test_ticks_survive_the_way_to_points_and_back(ticks: list[int]) -> None:
    points = np.array(ticks, dtype=np.float64) * ES.tick_size
    assert ES.to_ticks(points).tolist() == ticks
    assert ES.to_ticks(points).dtype == np.int64
    assert off_grid(points, ES.tick_size) < TICK_TOLERANCE


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_prices_that_are_no_numbers_have_no_ticks(value: float) -> None:
    with pytest.raises(InvalidValueError, match="finite"):
        ES.to_ticks([6000.0, value])


def test_unknown_instrument_names_the_known() -> None:
    with pytest.raises(InvalidValueError, match="one of ES"):
        instrument("XX")


@pytest.mark.parametrize(
    ("symbol", "tick_value", "calendar", "months", "round_turn"),
    [
        ("ES", 12.5, CME, "HMUZ", 29.50),
        ("MES", 1.25, CME, "HMUZ", 3.64),
        ("NQ", 5.0, CME, "HMUZ", 14.50),
        ("MNQ", 0.5, CME, "HMUZ", 2.14),
        ("RTY", 5.0, CME, "HMUZ", 14.50),
        ("YM", 5.0, CME, "HMUZ", 14.50),
        ("CL", 10.0, "CMEGlobex_CL", MONTH_CODES, 24.94),
        ("GC", 10.0, "CMEGlobex_GC", MONTH_CODES, 24.94),
    ],
)
def test_built_in_instruments(symbol: str, tick_value: float, calendar: str, months: str, round_turn: float) -> None:
    found = instrument(symbol)
    assert found.tick_value == pytest.approx(tick_value)
    assert (found.calendar, "".join(found.months)) == (calendar, months)
    assert found.round_turn_cost == pytest.approx(round_turn)
    assert off_grid(np.arange(1, 50_000) * found.tick_size, found.tick_size) < TICK_TOLERANCE


# ---------------------------------------------------------------- a file of one's own

ZN = """
[ZN]
tick = 0.015625
point_value = 1000.0
calendar = "CME Globex Interest Rate Products"
months = ["H", "M", "U", "Z"]
last_trade = "12:01"
expiry = { rule = "last_business_day", nth = 8 }
cost_per_side = 1.67

[ES]
cost_per_side = 1.50

[calendars."CME Globex Interest Rate Products"]
timezone = "America/Chicago"
rth = ["07:20", "14:00"]
first_session = 2020-01-02
last_session = 2030-12-31
closed = []
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "instruments.toml"
        path.write_text(text)
        os.utime(path, ns=(next(clock), next(clock)))
        monkeypatch.setenv(INSTRUMENTS_VARIABLE, str(path))
        return path

    clock = itertools.count(1)
    return write


def test_a_new_instrument_is_a_toml_entry(own) -> None:
    own(ZN)
    zn = instrument("ZN")
    assert (zn.tick_value, zn.expiry.nth) == (15.625, 8)
    contract = parse_contract("ZN 06-24")
    assert (contract.code, contract.expiry) == ("ZNM24", date(2024, 6, 18))
    table = contract_sessions(contract, zn, date(2024, 6, 3), date(2024, 6, 28))
    assert table.height == 12
    assert table["rth_minutes"].to_list() == [400] * 11 + [281]
    assert instrument("ES").cost_per_side == 1.50
    assert instrument("ES").tick_size == 0.25
    assert instrument("MES").cost_per_side == 0.57


def test_without_the_file_the_instrument_is_gone_again(own, monkeypatch) -> None:
    before = instrument("ES").digest
    own(ZN)
    assert instrument("ES").digest != before
    monkeypatch.delenv(INSTRUMENTS_VARIABLE)
    assert "ZN" not in symbols()
    assert instrument("ES").digest == before


@pytest.mark.parametrize(
    ("was", "becomes", "expected"),
    [
        ("tick = 0.015625", "tick = -1", r"ZN\.tick"),
        ("tick = 0.015625", 'tick = "1/64"', r"ZN\.tick"),
        ("tick = 0.015625", "", r"ZN\.tick.*absent"),
        ("point_value = 1000.0", "point_value = nan", r"ZN\.point_value"),
        ("point_value = 1000.0", "point_value = true", r"ZN\.point_value"),
        ('"H", "M", "U", "Z"', '"M", "H"', r"ZN\.months.*in order"),
        ('"H", "M", "U", "Z"', '"A"', r"ZN\.months"),
        ('"12:01"', '"noon"', r"ZN\.last_trade"),
        ("nth = 8", "days = 8", r"ZN\.expiry .*last_business_day \(nth\)"),
        ('"last_business_day"', '"never"', r"ZN\.expiry"),
        ("cost_per_side = 1.67", 'cost_per_side = 1.67\nroll_rule = "moon"', r"ZN\.roll_rule.*volume"),
        ("cost_per_side = 1.67", 'cost_per_side = 1.67\ncycle = ["F"]', r"ZN\.cycle"),
        ("cost_per_side = 1.67", "cost_per_side = 1.67\ncolour = 3", r"ZN\.colour.*tick"),
        ('calendar = "CME', 'calendar = "XCME', r"ZN\.calendar.*CMEGlobex_CL"),
        ("[ZN]", "[zn]", "symbol.*zn"),
        ('"America/Chicago"', '"Chicago"', r"calendars.*timezone"),
        ("closed = []", "", r"calendars.*closed.*absent"),
        ('"07:20", "14:00"', '"07:20"', r"calendars.*rth"),
        ('"07:20", "14:00"', '"14:00", "07:20"', r"rth in .* to be two times of one day, the earlier first"),
        ("first_session = 2020-01-02", "first_session = 2020", r"calendars.*first_session"),
        ("[ZN]", "ZN = 3\n[ZM]", "ZN.*table"),
        (
            "Interest Rate Products",
            "Interst Rate Products",
            r"calendars\.CME Globex Interst Rate Products.*did you mean CME Globex Interest Rate Products\?",
        ),
        (
            'calendar = "CME Globex Interest Rate Products"',
            'calendar = "CME Globex Interest Rates"',
            r"ZN\.calendar.*did you mean CME Globex Interest Rate Products\?\); was 'CME Globex Interest Rates'",
        ),
        ("tick = 0.015625", "tik = 0.015625\ntick = 0.015625", r"ZN\.tik.*did you mean tick\?"),
        ('rule = "last_business_day"', 'rule = ["last_business_day"]', r"ZN\.expiry"),
        ("closed = []", "closed = []\nearlyclose = []", r"calendars.*earlyclose.*did you mean early_close\?"),
        ("closed = []", 'closed = []\nhalt = [{ until = 2021-06-25, start = "15:15" }]', r"calendars.*halt.*end"),
        ("closed = []", 'closed = []\nearly_close = [{ session = "2021", close = "12:00" }]', r"early_close.*session"),
        ("2030-12-31", "2019-12-31", r"calendars.*last_session.*first_session"),
    ],
)
def test_impossible_entries_name_file_entry_and_key(own, was: str, becomes: str, expected: str) -> None:
    path = own(ZN.replace(was, becomes))
    with pytest.raises(InvalidValueError, match=expected) as caught:
        instrument("ES")
    assert str(path) in str(caught.value)


def test_calendars_that_are_no_table_are_refused(own) -> None:
    own("calendars = 3\n")
    with pytest.raises(InvalidValueError, match=r"calendars in .*instruments\.toml to be a table"):
        instrument("ES")


def test_a_changed_calendar_is_seen_and_an_unknown_one_is_refused(own) -> None:
    def sessions_in_june() -> int:
        return sessions("CME Globex Interest Rate Products", date(2024, 6, 3), date(2024, 6, 7)).height

    own(ZN)
    assert sessions_in_june() == 5
    own(ZN.replace("closed = []", "closed = [2024-06-05]"))
    assert sessions_in_june() == 4
    own(ZN.replace("CME Globex Interest Rate Products", "NYSE of Mars"))
    with pytest.raises(InvalidValueError, match="pandas_market_calendars"):
        sessions("NYSE of Mars", date(2024, 6, 3), date(2024, 6, 7))


def test_missing_or_broken_files_are_named(own, tmp_path, monkeypatch) -> None:
    path = own("[ZN\n")
    with pytest.raises(UnreadableFileError, match=path.name):
        instrument("ES")
    monkeypatch.setenv(INSTRUMENTS_VARIABLE, str(tmp_path / "nowhere.toml"))
    with pytest.raises(MissingInputError, match="nowhere"):
        instrument("ES")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 50_000, "tables and arrays within each other"),
        ("a = " + "{b = " * 5_000 + "1" + "}" * 5_000, "tables and arrays within each other"),
        (f"[{'.'.join('a' * 20_000)}]", "tables and arrays within each other"),
        (f"a = {'[' * 20}1{']' * 20}", "tables and arrays within each other"),
        ("# " + "x" * 1024**2, "at most 1,048,576 bytes"),
    ],
)
def test_recursive_and_oversized_files_are_refused(tmp_path, monkeypatch, text, words):
    path = tmp_path / "own.toml"
    path.write_text(text)
    monkeypatch.setenv("VPOC_INSTRUMENTS", str(path))
    with pytest.raises(UnreadableFileError, match=words):
        instrument("ES")
