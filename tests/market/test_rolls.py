"""Front periods by volume crossover."""

from __future__ import annotations

import io
import zipfile
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.rolls import front_periods

CODES = ["ESH24", "ESM24", "ESU24"]
MONDAY = date(2024, 3, 4)


def daily(volumes: dict[str, list[int]], first: date = MONDAY) -> pl.DataFrame:
    rows = [
        (code, first + timedelta(days=n), volume) for code, column in volumes.items() for n, volume in enumerate(column)
    ]
    schema = {"contract": pl.String, "session": pl.Date, "volume": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_front_changes_in_the_session_after_the_crossover() -> None:
    table = front_periods(daily({"ESH24": [90, 80, 40, 10], "ESM24": [1, 20, 60, 90]}))
    assert table.rows() == [
        ("ESH24", MONDAY, MONDAY + timedelta(days=2)),
        ("ESM24", MONDAY + timedelta(days=3), MONDAY + timedelta(days=3)),
    ]


def test_equal_volume_is_no_crossover() -> None:
    assert front_periods(daily({"ESH24": [50, 50], "ESM24": [50, 50]}))["contract"].to_list() == ["ESH24"]


def test_front_never_moves_back() -> None:
    table = front_periods(daily({"ESH24": [90, 10, 90, 90, 90], "ESM24": [1, 60, 5, 5, 5]}))
    assert table["contract"].to_list() == ["ESH24", "ESM24"]
    assert table["first_session"][1] == MONDAY + timedelta(days=2)


def test_expired_contract_hands_over_at_once() -> None:
    expiry = parse_contract("ESH24").expiry
    days = [expiry - timedelta(days=1), expiry, expiry + timedelta(days=3)]
    rows = [("ESH24", day, 90) for day in days[:2]] + [("ESM24", day, 5) for day in days]
    table = front_periods(pl.DataFrame(rows, schema=["contract", "session", "volume"], orient="row"))
    assert table.rows() == [("ESH24", days[0], days[1]), ("ESM24", days[2], days[2])]


def test_one_contract_is_front_throughout() -> None:
    assert front_periods(daily({"ESH24": [1, 2, 3]})).rows() == [("ESH24", MONDAY, MONDAY + timedelta(days=2))]


def test_no_volume_gives_an_empty_table() -> None:
    assert front_periods(daily({})).schema == {"contract": pl.String, "first_session": pl.Date, "last_session": pl.Date}
    assert front_periods(daily({})).is_empty()


volumes = st.lists(st.integers(0, 100), min_size=6, max_size=6)


@settings(max_examples=60)
@given(volumes, volumes, volumes, st.integers(1, 5))
def test_periods_tile_the_sessions_and_never_look_ahead(h: list[int], m: list[int], u: list[int], cut: int) -> None:
    whole = daily(dict(zip(CODES, (h, m, u), strict=True)))
    table = front_periods(whole)
    order = [CODES.index(code) for code in table["contract"]]
    assert order == sorted(set(order))
    for (_, _, last), (_, first, _) in zip(table.rows(), table.rows()[1:], strict=False):
        assert first == last + timedelta(days=1)
    horizon = MONDAY + timedelta(days=cut)
    known = front_periods(whole.filter(pl.col("session") <= horizon))
    for contract, first, last in known.rows():
        later = table.filter(pl.col("contract") == contract).row(0)
        assert later[1] == first
        assert later[2] == last or last == horizon


@pytest.mark.real
def test_december_2013_roll_crosses_on_the_friday(real_data: Path) -> None:
    frames = []
    with zipfile.ZipFile(real_data / "es_lean" / "daily" / "es_trade.zip") as archive:
        for code, name in (("ESZ13", "201312"), ("ESH14", "201403"), ("ESM14", "201406")):
            text = archive.read(f"es_trade_{name}.csv")
            raw = pl.read_csv(io.BytesIO(text), has_header=False, new_columns=["day", "o", "h", "l", "c", "volume"])
            day = pl.col("day").str.slice(0, 8).str.to_date("%Y%m%d")
            frames.append(raw.select(pl.lit(code).alias("contract"), day.alias("session"), "volume"))
    table = front_periods(pl.concat(frames).filter(pl.col("session").is_between(date(2013, 12, 2), date(2013, 12, 31))))
    assert table["contract"].to_list() == ["ESZ13", "ESH14"]
    # 868,208 against 347,764 contracts on Friday 13th; Sunday 15th is a row of its own in this vendor's table
    assert table["last_session"][0] == date(2013, 12, 13)
