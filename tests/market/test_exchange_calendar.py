"""The calendar against answers written by hand, never by the code under test."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market import exchange_calendar
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

CME = "CME Globex Equity"
ANSWERS = list(csv.DictReader((Path(__file__).parent / "answers_cme_equity.csv").open(encoding="utf-8")))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer['session']} {answer['what']}")
def test_sessions_of_a_day_equal_the_answer(answer: dict[str, str]) -> None:
    day = date.fromisoformat(answer["session"])
    table = exchange_calendar.sessions(CME, day, day)
    assert exchange_calendar.is_session(CME, day) == bool(answer["minutes"])
    if not answer["minutes"]:
        assert table.is_empty()
        return
    row = table.row(0, named=True)
    assert row["session"] == day
    assert row["open"] == utc(answer["open_utc"])
    assert row["close"] == utc(answer["close_utc"])
    assert row["minutes"] == int(answer["minutes"])
    assert row["rth_minutes"] == int(answer["rth_minutes"])
    assert (row["rth_open"] is None) == (row["rth_close"] is None) == (row["rth_minutes"] == 0)


def test_columns_have_their_documented_types() -> None:
    table = exchange_calendar.sessions(CME, date(2024, 1, 1), date(2024, 12, 31))
    utc = pl.Datetime("us", "UTC")
    assert table.schema == {
        "session": pl.Date(),
        "open": utc,
        "close": utc,
        "rth_open": utc,
        "rth_close": utc,
        "minutes": pl.Int32(),
        "rth_minutes": pl.Int32(),
        "halt_start": utc,
        "halt_end": utc,
    }


def test_all_reviewed_sessions_are_ordered_and_never_overlap() -> None:
    table = exchange_calendar.sessions(CME, *exchange_calendar.reviewed_range(CME))
    assert table["session"].is_sorted()
    assert table["session"].is_unique().all()
    assert table["session"].dt.weekday().is_in([1, 2, 3, 4, 5]).all()
    assert (table["close"] > table["open"]).all()
    assert (table["open"].slice(1) >= table["close"].slice(0, table.height - 1)).all()
    rth = table.drop_nulls("rth_open")
    assert (rth["rth_open"] > rth["open"]).all()
    assert (rth["rth_close"] <= rth["close"]).all()
    assert table["rth_minutes"].is_in([0, 120, 210, 225, 390]).all()


def test_rth_is_half_past_eight_chicago_in_summer_and_winter() -> None:
    table = exchange_calendar.sessions(CME, date(2023, 1, 2), date(2024, 12, 31)).drop_nulls("rth_open")
    local = table["rth_open"].dt.convert_time_zone("America/Chicago").dt.strftime("%H:%M")
    assert set(local) == {"08:30"}
    assert set(table["rth_open"].dt.strftime("%H:%M")) == {"13:30", "14:30"}


def test_halt_is_reported_until_june_2021_on_full_days_only() -> None:
    table = exchange_calendar.sessions(CME, date(2019, 1, 2), date(2022, 12, 30))
    halted = table.drop_nulls("halt_start")
    assert halted["session"].max() == date(2021, 6, 25)
    assert (halted["minutes"] == 1365).all()
    assert set(halted["halt_start"].dt.convert_time_zone("America/Chicago").dt.strftime("%H:%M")) == {"15:15"}


def test_expiring_contract_stops_at_half_past_eight() -> None:
    es = instrument("ES")
    table = exchange_calendar.contract_sessions(parse_contract("ESH25"), es, date(2025, 3, 20), date(2025, 4, 30))
    assert table["session"].to_list() == [date(2025, 3, 20), date(2025, 3, 21)]
    last = table.row(1, named=True)
    assert last["close"] == utc("2025-03-21 13:30")
    assert (last["minutes"], last["rth_minutes"]) == (930, 0)


@pytest.mark.parametrize(
    ("name", "session", "close", "minutes", "rth"),
    [
        ("CMEGlobex_CL", "2024-07-08", "2024-07-08 21:00", 1380, 330),
        ("CMEGlobex_CL", "2024-01-10", "2024-01-10 22:00", 1380, 330),
        ("CMEGlobex_CL", "2023-11-23", "2023-11-23 19:30", 1230, 330),
        ("CMEGlobex_CL", "2024-12-24", "2024-12-24 18:45", 1185, 285),
        ("CMEGlobex_GC", "2024-07-08", "2024-07-08 21:00", 1380, 310),
        ("CMEGlobex_GC", "2024-12-24", "2024-12-24 18:45", 1185, 310),
    ],
)
def test_sessions_of_crude_oil_and_gold(name: str, session: str, close: str, minutes: int, rth: int) -> None:
    day = date.fromisoformat(session)
    row = exchange_calendar.sessions(name, day, day).row(0, named=True)
    assert (row["close"], row["minutes"], row["rth_minutes"]) == (utc(close), minutes, rth)


def test_crude_oil_and_gold_are_closed_on_good_friday_christmas_and_new_year() -> None:
    for name in ("CMEGlobex_CL", "CMEGlobex_GC"):
        for day in ("2024-03-29", "2023-12-25", "2024-01-01", "2025-04-18"):
            assert not exchange_calendar.is_session(name, date.fromisoformat(day))
    with pytest.raises(InvalidValueError, match="2015-09-21"):
        exchange_calendar.sessions("CMEGlobex_CL", date(2015, 9, 18), date(2015, 9, 22))


def test_micros_share_the_calendar_of_the_full_size_contracts() -> None:
    assert instrument("MES").calendar == instrument("ES").calendar == instrument("MNQ").calendar


def test_expiring_crude_oil_stops_at_half_past_two_new_york() -> None:
    table = exchange_calendar.contract_sessions(
        parse_contract("CLK20"), instrument("CL"), date(2020, 4, 20), date(2020, 4, 30)
    )
    assert table["session"].to_list() == [date(2020, 4, 20), date(2020, 4, 21)]
    assert table["close"][1] == utc("2020-04-21 18:30")


def test_ten_years_have_their_sessions() -> None:
    table = exchange_calendar.sessions(CME, date(2015, 1, 1), date(2024, 12, 31))
    weekdays = pl.date_range(date(2015, 1, 1), date(2024, 12, 31), eager=True)
    weekdays = weekdays.filter(weekdays.dt.weekday() <= 5).len()
    assert weekdays - 10 * 5 < table.height < weekdays  # a few weekdays a year have no session


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [("NYSE of Mars", date(2024, 1, 1), date(2024, 1, 2)), (CME, date(2012, 11, 16), date(2013, 1, 2))],
)
def test_unreviewed_hours_are_refused(name: str, start: date, end: date) -> None:
    with pytest.raises(InvalidValueError, match="Expected"):
        exchange_calendar.sessions(name, start, end)
