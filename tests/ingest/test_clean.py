"""Cleaning: sessions, RTH, and one reason for every row that is no bar."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.artifacts import schemas
from vpoc_ml.artifacts.schemas import BARS, QUARANTINE
from vpoc_ml.ingest.clean import Cleaned, clean
from vpoc_ml.ingest.parsing.text_layout import parse_lines
from vpoc_ml.ingest.readers.ninjatrader import LAYOUT
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")
NOON = datetime(2025, 1, 15, 17, 0, tzinfo=UTC)
PRICES = "6000;6000.5;5999.75;6000.25;10"


def line(start: datetime, prices: str = PRICES) -> str:
    return f"{start + timedelta(minutes=1):%Y%m%d %H%M%S};{prices}"


def cleaned(lines: list[str], code: str = "ESH25") -> Cleaned:
    rows = parse_lines(pl.Series("text", lines, dtype=pl.String), LAYOUT).with_row_index("line", offset=1)
    return clean(rows.with_columns(pl.col("line").cast(pl.Int64)), parse_contract(code), ES, min_price=0.25)


def every_minute(first: datetime, last: datetime) -> list[str]:
    count = int((last - first).total_seconds() // 60)
    return [line(first + timedelta(minutes=n)) for n in range(count)]


@pytest.mark.parametrize(
    ("session", "code", "minutes", "rth"),
    [
        (date(2025, 1, 15), "ESH25", 1380, 390),
        (date(2025, 3, 10), "ESH25", 1380, 390),  # first session of summer time
        (date(2024, 11, 4), "ESZ24", 1380, 390),  # first session of winter time
        (date(2024, 11, 29), "ESZ24", 1155, 225),
        (date(2025, 1, 20), "ESH25", 1140, 210),
        (date(2025, 1, 9), "ESH25", 930, 0),
        (date(2025, 3, 21), "ESH25", 930, 0),  # expiry
        (date(2024, 12, 25), "ESH25", 0, 0),
        (date(2021, 6, 25), "ESU21", 1365, 390),
    ],
)
def test_minutes_of_a_session_and_nothing_else_are_its_bars(session: date, code: str, minutes: int, rth: int) -> None:
    around = datetime(session.year, session.month, session.day, tzinfo=UTC)
    result = cleaned(every_minute(around - timedelta(hours=12), around + timedelta(hours=36)), code)
    bars = result.bars.filter(pl.col("session") == session)
    assert bars.height == minutes
    assert bars["rth"].sum() == rth
    assert set(result.quarantine["reason"]) <= {schemas.OUTSIDE_HOURS}


def test_rth_is_half_past_nine_to_one_minute_before_four_start_stamped() -> None:
    day = datetime(2025, 1, 15, tzinfo=UTC)
    bars = cleaned(every_minute(day, day + timedelta(hours=22))).bars.filter("rth")
    local = bars["ts"].dt.convert_time_zone("America/New_York").dt.strftime("%H:%M")
    assert (local[0], local[-1], bars.height) == ("09:30", "15:59", 390)


@pytest.mark.parametrize(
    ("start", "session"),
    [
        (datetime(2025, 1, 15, 21, 59, tzinfo=UTC), date(2025, 1, 15)),
        (datetime(2025, 1, 15, 22, 0, tzinfo=UTC), None),
        (datetime(2025, 1, 15, 22, 59, tzinfo=UTC), None),
        (datetime(2025, 1, 15, 23, 0, tzinfo=UTC), date(2025, 1, 16)),
        (datetime(2025, 1, 17, 22, 0, tzinfo=UTC), None),
        (datetime(2025, 1, 18, 15, 0, tzinfo=UTC), None),
        (datetime(2025, 1, 19, 23, 0, tzinfo=UTC), date(2025, 1, 20)),
        (datetime(2025, 1, 20, 18, 0, tzinfo=UTC), None),
        (datetime(2025, 3, 21, 13, 29, tzinfo=UTC), date(2025, 3, 21)),
        (datetime(2025, 3, 21, 13, 30, tzinfo=UTC), None),
        (datetime(2025, 3, 24, 15, 0, tzinfo=UTC), None),  # after expiry
        (datetime(1999, 3, 24, 15, 0, tzinfo=UTC), None),
        (datetime(2099, 3, 24, 15, 0, tzinfo=UTC), None),
    ],
)
def test_session_of_a_minute(start: datetime, session: date | None) -> None:
    result = cleaned([line(start)])
    if session is None:
        assert result.quarantine["reason"].to_list() == [schemas.OUTSIDE_HOURS]
    else:
        assert result.bars["session"].to_list() == [session]


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ("6000;6000.5;5999.75", schemas.UNPARSABLE),
        ("0;6000.5;0;6000.25;10", schemas.BELOW_MIN_PRICE),
        ("-6000;6000.5;-6000;6000.25;10", schemas.BELOW_MIN_PRICE),
        ("6000.1;6000.5;5999.75;6000.25;10", schemas.OFF_TICK),
        ("6000;6000.5;5999.76;6000.25;10", schemas.OFF_TICK),
        ("6000;6000;5999.75;6000.25;10", schemas.OHLC),
        ("6000;6000.5;6000.25;6000.25;10", schemas.OHLC),
        ("6000;5999;6000.5;6000.25;10", schemas.OHLC),
        ("6000;6000.5;5999.75;6000.25;-1", schemas.NEGATIVE_VOLUME),
    ],
)
def test_bad_row_is_kept_with_its_reason_line_and_text(prices: str, reason: str) -> None:
    lines = [line(NOON), line(NOON + timedelta(minutes=1), prices), line(NOON + timedelta(minutes=2))]
    result = cleaned(lines)
    assert result.bars.height == 2
    row = result.quarantine.row(0, named=True)
    assert (row["reason"], row["line"], row["text"]) == (reason, 2, lines[1])


def test_zero_volume_is_a_bar() -> None:
    assert cleaned([line(NOON, "6000;6000;6000;6000;0")]).bars.height == 1


def test_the_first_row_of_equal_timestamps_is_the_bar() -> None:
    other = "6000;6000.5;5999.75;6000.25;11"
    result = cleaned([line(NOON), line(NOON, other), line(NOON), line(NOON + timedelta(minutes=1))])
    assert result.bars["volume"].to_list() == [10, 10]
    assert result.quarantine.select("line", "reason").rows() == [
        (2, schemas.CONFLICTING),
        (3, schemas.DUPLICATE),
    ]


def test_a_bad_row_does_not_shadow_a_good_one_of_its_timestamp() -> None:
    result = cleaned([line(NOON, "6000.1;6000.5;5999.75;6000.25;10"), line(NOON)])
    assert result.bars.height == 1
    assert result.quarantine["reason"].to_list() == [schemas.OFF_TICK]


def test_out_of_order_rows_are_sorted_and_counted() -> None:
    order = [3, 0, 1, 2, 4]
    result = cleaned([line(NOON + timedelta(minutes=n)) for n in order])
    assert result.bars["ts"].is_sorted()
    assert result.bars.height == 5
    assert result.out_of_order == 3


ROWS = st.one_of(
    st.builds(
        lambda minute, prices: line(NOON + timedelta(minutes=minute), prices),
        st.integers(-4000, 4000),
        st.sampled_from(
            [PRICES, PRICES, PRICES, "6000;6000.5;5999.75;6000.25;11", "6000.1;6001;6000;6000;1", "1;2;3;4;5", "x"]
        ),
    ),
    st.text(st.characters(blacklist_characters="\n\r", codec="utf-8"), max_size=60),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, max_size=60))
def test_every_row_is_a_bar_or_in_quarantine_exactly_once(lines: list[str]) -> None:
    result = cleaned(lines)
    assert result.bars.height + result.quarantine.height == len(lines)
    assert result.bars["ts"].is_sorted()
    assert result.bars["ts"].is_unique().all()
    assert result.quarantine["line"].is_sorted()
    assert result.quarantine["reason"].null_count() == 0
    assert all(lines[n - 1] == text for n, text in result.quarantine.select("line", "text").iter_rows())
    assert not result.bars.null_count().pipe(lambda frame: sum(frame.row(0))) if result.bars.height else True


def test_columns_are_those_of_the_schemas() -> None:
    result = cleaned([line(NOON), "broken"])
    assert result.bars.columns == [name for name in BARS if name != "vix"]
    assert result.quarantine.columns == [name for name in QUARANTINE if name != "file"]
    assert result.quarantine.schema["line"] == pl.Int64()
    assert result.bars.schema["ts"] == pl.Datetime("us", "UTC")


def test_prices_at_or_below_zero_are_bars_where_the_instrument_allows_them() -> None:
    crash = datetime(2020, 4, 20, 18, 20, tzinfo=UTC)
    prices = ("0.03;0.04;0.00;0.01;5", "-0.01;0.01;-0.02;-0.02;7", "-37.63;-37.60;-40.32;-37.63;9")
    lines = [line(crash + timedelta(minutes=n), each) for n, each in enumerate(prices)]
    rows = parse_lines(pl.Series("text", lines, dtype=pl.String), LAYOUT).with_row_index("line", offset=1)
    rows, crude = rows.with_columns(pl.col("line").cast(pl.Int64)), instrument("CL")
    allowed = clean(rows, parse_contract("CLK20"), crude, min_price=0.25)
    assert allowed.bars["close"].to_list() == [0.01, -0.02, -37.63]
    refused = clean(rows, parse_contract("CLK20"), replace(crude, negative_prices=False), min_price=0.25)
    assert refused.bars.is_empty()
    assert refused.quarantine["reason"].to_list() == [schemas.BELOW_MIN_PRICE] * 3
