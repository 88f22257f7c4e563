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
    "text", ["ESH25", "ES 03-25", "ES_03_25", "ES_03-25", "ESH2025", "ES_H25", "ES H25", " esh25 "]
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
    ],
)
def test_one_digit_year_is_the_nearest(text: str, near: date, year: int) -> None:
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
        ("ESH5", "near"),
        ("ESH225", "Expected"),
        ("ESH25.txt", "Expected"),
        ("ES 03/25", "Expected"),
    ],
)
def test_unreadable_names_say_why(text: str, reason: str) -> None:
    with pytest.raises(ContractCodeError, match=reason):
        parse_contract(text)


def test_error_says_where() -> None:
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
