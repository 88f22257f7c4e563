"""Contract codes: every accepted spelling, and the spellings that must be refused."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpoc_ml.errors import ContractCodeError
from vpoc_ml.market.contracts import Contract, parse_contract

QUARTERS = (3, 6, 9, 12)


@pytest.mark.parametrize(
    "text",
    [
        *("ESH25", "ES 03-25", "ES_03_25", "ES_03-25", "ESH2025", "ES_H25", "ES H25", " esh25 ", "ES_H2025"),
        *("ES202503", "ES 202503", "es_202503", "ES 2025-03", "ES MAR25", "ES   MAR 25", "ES Mar 2025", "ES 03-2025"),
        *("/ESH25", "@ESH25", "ESH25.CME", "ESH25-CME", "ESH25_FUT_CME", "ESH2025.XCME"),
    ],
)
def test_spellings_of_one_contract(text: str) -> None:
    assert parse_contract(text) == Contract("ES", 2025, 3)
    assert parse_contract(text).code == "ESH25"


@pytest.mark.parametrize(
    ("text", "near", "year"),
    [
        ("ESH5", date(2024, 12, 12), 2025),
        ("ESZ9", date(2020, 1, 6), 2019),
        ("ESH0", date(2029, 11, 1), 2030),
        ("ESH0", date(2024, 12, 1), 2020),
        ("ESM6", date(2026, 6, 30), 2026),
        ("ESH98", date(2013, 12, 1), 1998),
        ("ES 03-72", date(2060, 1, 1), 2072),
        ("ES 03-72", date(1975, 1, 1), 1972),
        ("ES 03-25", date(2024, 12, 1), 2025),
        ("ESZ99", date(2000, 1, 3), 1999),
        ("ESH2025", date(1999, 1, 1), 2025),
    ],
)
def test_short_years_are_the_nearest(text: str, near: date, year: int) -> None:
    assert parse_contract(text, near=near).year == year


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expected"),
        ("ES", "Expected"),
        ("ES 13-25", "months"),
        ("ES 04-25", "H, M, U, Z"),
        ("ESF25", "H, M, U, Z"),
        ("XXH25", "no instrument XX"),
        ("ESH5", "date of the data"),
        ("ESH225", "Expected"),
        ("ESH25.txt", "Expected"),
        ("ES 03/25", "Expected"),
        ("ES1!", "continuous"),
        ("ES=F", "continuous"),
        ("@ES#", "continuous"),
        ("ES.c.0", "continuous"),
        ("ES ##-##", "continuous"),
        ("ESM6-ESU6", "Expected"),
        ("ES202513", "months"),
        ("GC 00-25", "months"),
    ],
)
def test_the_error_of_an_unreadable_name_states_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ContractCodeError, match=reason):
        parse_contract(text)


def test_the_error_names_the_origin_of_the_name() -> None:
    with pytest.raises(ContractCodeError, match="in the file name"):
        parse_contract("notes", where="file name")


@pytest.mark.parametrize(
    ("code", "expiry", "roll"),
    [
        ("ESZ13", date(2013, 12, 20), date(2013, 12, 16)),
        ("ESH25", date(2025, 3, 21), date(2025, 3, 17)),
        ("ESM24", date(2024, 6, 21), date(2024, 6, 17)),
        ("ESU23", date(2023, 9, 15), date(2023, 9, 11)),
    ],
)
def test_expiry_is_the_third_friday_and_the_roll_its_monday(code: str, expiry: date, roll: date) -> None:
    contract = parse_contract(code)
    assert (contract.expiry, contract.scheduled_roll) == (expiry, roll)


@given(st.integers(1970, 2069), st.sampled_from(QUARTERS))
def test_code_is_read_back(year: int, month: int) -> None:
    contract = Contract("ES", year, month)
    assert parse_contract(contract.code) == contract
    assert parse_contract(f"ES {month:02d}-{year % 100:02d}") == contract
    assert contract.expiry.weekday() == 4
    assert 15 <= contract.expiry.day <= 21


def test_contracts_sort_by_expiry() -> None:
    codes = ["ESZ24", "ESH25", "ESU24", "ESM24"]
    assert [c.code for c in sorted(map(parse_contract, codes))] == ["ESM24", "ESU24", "ESZ24", "ESH25"]


@pytest.mark.parametrize(
    ("text", "code", "expiry"),
    [
        # https://www.cmegroup.com/markets/energy/crude-oil/light-sweet-crude.calendar.html
        ("CL 05-20", "CLK20", date(2020, 4, 21)),  # the 25th was a Saturday; the price was negative the day before
        ("CLZ1", "CLZ21", date(2021, 11, 19)),  # the 25th was Thanksgiving
        ("CLF25", "CLF25", date(2024, 12, 19)),  # the 25th was Christmas
        ("CL 03-25", "CLH25", date(2025, 2, 20)),
        ("CLH24", "CLH24", date(2024, 2, 20)),
        ("CLM26", "CLM26", date(2026, 5, 19)),  # the 25th is Memorial Day
        # https://www.cmegroup.com/markets/metals/precious/gold.calendar.html
        ("GCZ24", "GCZ24", date(2024, 12, 27)),
        ("GC 02-25", "GCG25", date(2025, 2, 26)),
        ("GCX20", "GCX20", date(2020, 11, 25)),  # Thanksgiving on the 26th
        ("GCM24", "GCM24", date(2024, 6, 26)),
        ("MESH25", "MESH25", date(2025, 3, 21)),
        ("MNQ 12-24", "MNQZ24", date(2024, 12, 20)),
        ("NQZ4", "NQZ24", date(2024, 12, 20)),
        ("rty_u24", "RTYU24", date(2024, 9, 20)),
        ("YM   MAR 25", "YMH25", date(2025, 3, 21)),
    ],
)
def test_other_instruments_expire_by_their_own_rule(text: str, code: str, expiry: date) -> None:
    contract = parse_contract(text, near=expiry)
    assert (contract.code, contract.expiry) == (code, expiry)


@given(st.integers(1970, 2068), st.integers(1, 12), st.sampled_from(["CL", "GC"]))
def test_monthly_contracts_expire_in_order_on_weekdays_and_roll_before(year: int, month: int, root: str) -> None:
    contract = Contract(root, year, month)
    after = Contract(root, year + month // 12, month % 12 + 1)
    assert contract.scheduled_roll < contract.expiry < after.expiry
    assert contract.expiry.weekday() < 5
    assert contract.scheduled_roll.weekday() < 5
    assert parse_contract(contract.code, near=contract.expiry) == contract


@pytest.mark.parametrize(
    ("code", "previous"), [("ESH25", "ESZ24"), ("ESM25", "ESH25"), ("CLF25", "CLZ24"), ("MNQZ24", "MNQU24")]
)
def test_previous_contract_is_the_one_a_scheduled_roll_comes_from(code: str, previous: str) -> None:
    assert parse_contract(code).previous.code == previous
