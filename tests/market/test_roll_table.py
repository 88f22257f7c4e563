"""Front periods by volume crossover."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.errors import ArtifactError, InvalidValueError
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instrument_files import ROLL_RULES
from vpoc_ml.market.roll_table import (
    COMMON,
    ESTIMATED,
    NO_STEP,
    RollStep,
    describe_steps,
    estimate_roll,
    front_periods,
    measure_roll,
    roll_problems,
    roll_table,
    stated_step,
)
from vpoc_ml.synthetic.generate import plan_market
from vpoc_ml.synthetic.planted_rules import Planted
from vpoc_ml.synthetic.price_path import simulate

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


# ---------------------------------------------------------------- other rules


def with_interest(table: pl.DataFrame, held: dict[str, list[int | None]]) -> pl.DataFrame:
    rows = [
        (code, MONDAY + timedelta(days=n), figure) for code, column in held.items() for n, figure in enumerate(column)
    ]
    schema = {"contract": pl.String, "session": pl.Date, "open_interest": pl.Int64}
    return table.join(pl.DataFrame(rows, schema=schema, orient="row"), on=["contract", "session"], how="left")


def test_open_interest_of_a_session_decides_two_sessions_later() -> None:
    """It crosses on Tuesday, is published on Wednesday morning, and makes Thursday the first new session."""
    table = with_interest(
        daily({"ESH24": [90, 1, 1, 1, 1], "ESM24": [1, 90, 90, 90, 90]}),
        {"ESH24": [90, 40, 30, 20, 10], "ESM24": [10, 50, 60, 70, 80]},
    )
    found = front_periods(table, "open_interest")
    assert found.rows() == [
        ("ESH24", MONDAY, MONDAY + timedelta(days=2)),
        ("ESM24", MONDAY + timedelta(days=3), MONDAY + timedelta(days=4)),
    ]


def test_sessions_without_open_interest_decide_nothing() -> None:
    table = with_interest(
        daily({"ESH24": [9] * 6, "ESM24": [9] * 6}),
        {"ESH24": [90, None, None, 20, 20, 20], "ESM24": [10, None, 60, 70, 80, 80]},
    )
    # on Wednesday only the later contract is known: 60 against the 90 of Monday
    assert front_periods(table, "open_interest")["last_session"][0] == MONDAY + timedelta(days=4)


def test_open_interest_unknown_for_the_front_contract_is_no_crossover() -> None:
    table = with_interest(daily({"ESH24": [9] * 4, "ESM24": [9] * 4}), {"ESM24": [70, 80, 80, 80]})
    assert front_periods(table, "open_interest")["contract"].to_list() == ["ESH24"]


def test_open_interest_rule_without_figures_says_so() -> None:
    with pytest.raises(ArtifactError, match="open interest"):
        front_periods(daily({"ESH24": [1, 2]}), "open_interest")
    with pytest.raises(InvalidValueError, match=r"data\.roll_rule.*calendar"):
        front_periods(daily({"ESH24": [1, 2]}), "moon")


def test_calendar_rule_rolls_on_the_monday_of_the_expiry_week() -> None:
    days = [[50] * 12, [1] * 12]  # 4 to 15 March; expiry on Friday 15th
    table = front_periods(daily(dict(zip(CODES, days, strict=False))), "calendar")
    assert table.rows() == [
        ("ESH24", MONDAY, date(2024, 3, 10)),
        ("ESM24", date(2024, 3, 11), date(2024, 3, 15)),
    ]


def test_calendar_rule_waits_for_a_contract_that_trades_and_keeps_to_the_cycle() -> None:
    first = date(2024, 2, 19)
    gold = {"GCJ24": [50] * 10, "GCK24": [9] * 10, "GCM24": [0] * 5 + [3] * 5}
    schedule = parse_contract("GCJ24").scheduled_roll
    assert schedule == date(2024, 3, 26)
    table = front_periods(daily(gold, schedule - timedelta(days=2)), "calendar")
    assert table["contract"].to_list() == ["GCJ24", "GCM24"]
    assert table["first_session"][1] == schedule + timedelta(days=3)
    assert front_periods(daily(gold, first), "calendar")["contract"].to_list() == ["GCJ24"]


@settings(max_examples=60, deadline=None)
@given(volumes, volumes, volumes, volumes, volumes, volumes, st.sampled_from(ROLL_RULES), st.integers(1, 5))
def test_every_rule_gives_each_session_one_front_and_never_goes_back(h, m, u, hi, mi, ui, rule, cut) -> None:
    interest = dict(zip(CODES, (hi, mi, ui), strict=True))
    whole = with_interest(daily(dict(zip(CODES, (h, m, u), strict=True)), date(2024, 3, 4)), interest)
    table = front_periods(whole, rule)
    order = [CODES.index(code) for code in table["contract"]]
    assert order == sorted(set(order))
    owners = [
        table.filter((pl.col("first_session") <= day) & (pl.col("last_session") >= day)).height
        for day in sorted(set(whole["session"]))
    ]
    assert sorted(owners, reverse=False) == owners, "once there is a front there always is one"
    assert set(owners) <= {0, 1}
    horizon = MONDAY + timedelta(days=cut)
    known = front_periods(whole.filter(pl.col("session") <= horizon), rule)
    starts = dict(table.select("contract", "first_session").iter_rows())
    assert all(starts[code] == first for code, first, _ in known.rows()), "later sessions move no earlier switch"


# ---------------------------------------------------------------- files that end, and what is lost


def weekdays(rows: dict[str, tuple[date, date, int]]) -> pl.DataFrame:
    """Daily volumes of contracts on the weekdays from their first to their last day."""
    schema = {"contract": pl.String, "session": pl.Date, "volume": pl.Int64}
    found = [
        (code, first + timedelta(days=n), volume)
        for code, (first, last, volume) in rows.items()
        for n in range((last - first).days + 1)
        if (first + timedelta(days=n)).weekday() < 5
    ]
    return pl.DataFrame(found, schema=schema, orient="row")


FRIDAY_BEFORE, END = date(2026, 3, 13), date(2026, 3, 27)  # a week before ESH26 expires, a week after


@pytest.mark.parametrize("rule", ROLL_RULES)
def test_a_front_contract_whose_file_has_ended_hands_over_at_the_next_session(rule: str) -> None:
    table = weekdays(
        {"ESH26": (date(2026, 2, 2), FRIDAY_BEFORE, 900), "ESM26": (date(2026, 3, 2), date(2026, 3, 27), 9)}
    )
    found = front_periods(table.with_columns(open_interest=pl.col("volume")), rule)
    assert found.rows() == [
        ("ESH26", date(2026, 2, 2), FRIDAY_BEFORE),
        ("ESM26", date(2026, 3, 16), END),
    ]


@pytest.mark.parametrize("rule", ROLL_RULES)
def test_a_file_that_ends_today_has_not_ended(rule: str) -> None:
    table = weekdays({"ESH26": (date(2026, 2, 2), FRIDAY_BEFORE, 900), "ESM26": (date(2026, 3, 2), FRIDAY_BEFORE, 9)})
    assert front_periods(table.with_columns(open_interest=pl.col("volume")), rule)["contract"].to_list() == ["ESH26"]


@pytest.mark.parametrize("rule", ["calendar", "open_interest"])
def test_a_hole_long_before_the_expiry_is_no_roll(rule: str) -> None:
    table = weekdays(
        {"ESH26": (date(2026, 1, 5), date(2026, 2, 27), 900), "ESM26": (date(2026, 1, 5), date(2026, 2, 27), 9)}
    )
    hole = table.filter(~((pl.col("contract") == "ESH26") & (pl.col("session") == date(2026, 1, 20))))
    found = front_periods(hole.with_columns(open_interest=pl.col("volume")), rule)
    assert found["contract"].to_list() == ["ESH26"]


def lost(table: pl.DataFrame, *, measured: bool = True) -> list[str]:
    step = RollStep(1.0, 1.01) if measured else RollStep(None, None)
    calendar = [day for day in pl.date_range(date(2026, 1, 1), date(2026, 12, 31), eager=True) if day.weekday() < 5]
    return roll_problems(table, roll_table(front_periods(table), lambda old, new, switch: step), calendar)


def test_no_problem_if_the_next_file_takes_over() -> None:
    files = {"ESH26": (date(2026, 2, 2), FRIDAY_BEFORE, 900), "ESM26": (date(2026, 3, 2), date(2026, 3, 27), 9)}
    assert lost(weekdays(files)) == []
    assert lost(weekdays({})) == []


def test_a_roll_without_common_minutes_is_named() -> None:
    files = {"ESH26": (date(2026, 2, 2), FRIDAY_BEFORE, 900), "ESM26": (date(2026, 3, 16), date(2026, 3, 27), 9)}
    (note,) = lost(weekdays(files), measured=False)
    assert note.startswith("ESM26: no session of the week before 2026-03-16 in which ESH26 and ESM26 both traded")


def test_a_missing_contract_in_the_middle_is_a_problem_of_the_one_before() -> None:
    files = {"ESH26": (date(2026, 2, 2), FRIDAY_BEFORE, 900), "ESU26": (date(2026, 6, 15), date(2026, 6, 26), 900)}
    (note,) = lost(weekdays(files))
    assert note.startswith("ESH26: 65 sessions, 2026-03-16 to 2026-06-12, without a bar of the front contract")


def test_a_session_that_no_file_holds_is_named() -> None:
    table = weekdays({"ESH26": (date(2026, 2, 2), FRIDAY_BEFORE, 900)})
    (note,) = lost(table.filter(pl.col("session") != date(2026, 2, 10)))
    assert note.startswith("ESH26: session 2026-02-10 without a bar")


# ---------------------------------------------------------------- gap and ratio


def quotes(session: date, closes: list[float], volume: int = 1, first: int = 0) -> pl.DataFrame:
    begin = datetime(session.year, session.month, session.day, 15, tzinfo=UTC)
    ts = [begin + timedelta(minutes=first + n) for n in range(len(closes))]
    frame = pl.DataFrame({"ts": ts, "close": closes}, schema={"ts": pl.Datetime("us", "UTC"), "close": pl.Float64})
    return frame.with_columns(session=pl.lit(session), volume=pl.lit(volume, pl.Int64))


FRIDAY, SWITCH = date(2024, 3, 8), date(2024, 3, 11)


def test_gap_and_ratio_by_hand() -> None:
    old = quotes(FRIDAY, [5000.0, 5001.0, 5002.0, 5003.0, 5004.0, 5005.0])
    new = quotes(FRIDAY, [5050.0, 5051.0, 5052.25, 5053.0, 5500.0], first=0)  # the last is a bad print
    assert measure_roll(old, new, SWITCH) == (50.0, pytest.approx(1.01), COMMON, None)


def test_only_common_minutes_in_which_both_traded_count() -> None:
    old = quotes(FRIDAY, [5000.0] * 20)
    new = pl.concat([quotes(FRIDAY, [4994.0] * 6, first=10), quotes(FRIDAY, [100.0] * 4, volume=0, first=16)])
    new = pl.concat([new, quotes(FRIDAY, [9000.0] * 50, first=20)])
    assert measure_roll(old, new, SWITCH) == (-6.0, 4994.0 / 5000.0, COMMON, None)


def test_the_last_session_before_the_switch_is_measured_never_a_later_one() -> None:
    days = [(date(2024, 3, 7), 5010.0), (FRIDAY, 5020.0), (SWITCH, 5900.0)]
    old = pl.concat([quotes(day, [5000.0] * 9) for day, _ in days])
    new = pl.concat([quotes(day, [price] * 9) for day, price in days])
    assert measure_roll(old, new, SWITCH).gap == 20.0
    thin = pl.concat([quotes(day, [price] * (9 if day != FRIDAY else 4)) for day, price in days])
    assert measure_roll(old, thin, SWITCH).gap == 10.0, "four minutes are no measurement"


def test_contracts_without_common_minutes_have_no_gap() -> None:
    old, new = quotes(FRIDAY, [5000.0] * 9), quotes(FRIDAY, [5010.0] * 9)
    for nothing in (new.head(4), new.head(0), quotes(date(2024, 3, 1), [5010.0] * 9)):
        assert measure_roll(old, nothing, SWITCH) == NO_STEP
    assert measure_roll(quotes(FRIDAY, [-37.63] * 9), quotes(FRIDAY, [20.43] * 9), SWITCH)[:2] == (58.06, None)


@given(st.floats(0.5, 2.0), st.lists(st.integers(1000, 30_000), min_size=5, max_size=40))
def test_a_constant_ratio_is_found_and_undone_by_its_inverse(ratio: float, ticks: list[int]) -> None:
    old = quotes(FRIDAY, [0.25 * tick for tick in ticks])
    new = old.with_columns(pl.col("close") * ratio)
    there, back = measure_roll(old, new, SWITCH), measure_roll(new, old, SWITCH)
    assert there.ratio == pytest.approx(ratio, rel=1e-12)
    assert there.ratio * back.ratio == pytest.approx(1.0, rel=1e-12)
    assert there.gap == pytest.approx(-back.gap)


def test_roll_table_names_predecessors_and_measures_each_roll_once() -> None:
    front = front_periods(daily({"ESH24": [90, 80, 40, 10, 10], "ESM24": [1, 20, 60, 90, 90]}))
    measured = []

    def measure(old: str, new: str, switch: date) -> RollStep:
        measured.append((old, new, switch))
        return RollStep(50.0, 1.01, COMMON)

    table = roll_table(front, measure)
    switch = MONDAY + timedelta(days=3)
    assert table.rows() == [
        ("ESH24", MONDAY, switch - timedelta(days=1), *[None] * 5),
        ("ESM24", switch, switch + timedelta(days=1), "ESH24", 50.0, 1.01, COMMON, None),
    ]
    assert measured == [("ESH24", "ESM24", switch)]
    assert roll_table(front.head(0), measure).schema == table.schema


# ---------------------------------------------------------------- December 2013 and after, as traded

DECEMBER = (("ESZ13", "201312"), ("ESH14", "201403"), ("ESM14", "201406"))


def lean_daily(folder: Path, kind: str, columns: list[str]) -> pl.DataFrame:
    """Daily figures of December 2013; the Sunday evening, a row of its own there, joins its Monday."""
    frames = []
    with zipfile.ZipFile(folder / "es_lean" / "daily" / f"es_{kind}.zip") as archive:
        for code, name in DECEMBER:
            text = archive.read(f"es_{kind}_{name}.csv")
            raw = pl.read_csv(io.BytesIO(text), has_header=False, new_columns=["day", *columns])
            day = pl.col("day").str.slice(0, 8).str.to_date("%Y%m%d")
            frames.append(raw.select(contract=pl.lit(code), session=day, figure=pl.col(columns[-1])))
    monday = pl.when(pl.col("session").dt.weekday() == 7).then(pl.col("session").dt.offset_by("1d"))
    table = pl.concat(frames).with_columns(session=monday.otherwise("session"))
    table = table.group_by("contract", "session").agg(pl.col("figure").sum()).sort("session", "contract")
    return table.filter(pl.col("session").is_between(date(2013, 12, 2), date(2013, 12, 31)))


@pytest.fixture
def december(real_data: Path) -> pl.DataFrame:
    traded = lean_daily(real_data, "trade", ["o", "h", "l", "c", "volume"]).rename({"figure": "volume"})
    held = lean_daily(real_data, "openinterest", ["held"]).rename({"figure": "open_interest"})
    return traded.join(held, on=["contract", "session"], how="left")


@pytest.mark.real
def test_december_2013_volume_crosses_on_friday_and_the_front_changes_on_monday(december: pl.DataFrame) -> None:
    share = {
        day: (december.filter(session=date(2013, 12, day), contract="ESH14")["volume"].item())
        / december.filter(pl.col("session") == date(2013, 12, day))["volume"].sum()
        for day in (12, 13, 16)
    }
    assert share == {
        12: pytest.approx(0.24, abs=0.01),
        13: pytest.approx(0.71, abs=0.01),
        16: pytest.approx(0.84, abs=0.01),
    }
    table = front_periods(december)
    assert table.select("contract", "first_session").rows() == [
        ("ESZ13", date(2013, 12, 2)),
        ("ESH14", date(2013, 12, 16)),
    ]
    assert table["last_session"][0] == date(2013, 12, 13)


@pytest.mark.real
def test_december_2013_open_interest_is_still_behind_on_monday_16th(december: pl.DataFrame) -> None:
    monday = december.filter(pl.col("session") == date(2013, 12, 16)).drop_nulls("open_interest")
    held = dict(monday.select("contract", "open_interest").iter_rows())
    assert held["ESH14"] / (held["ESZ13"] + held["ESH14"]) == pytest.approx(0.46, abs=0.005)
    # the vendor's next figure is of the 20th, the expiry day, so here the switch comes with the expiry
    table = front_periods(december, "open_interest")
    assert (table["contract"][1], table["first_session"][1]) == ("ESH14", date(2013, 12, 23))


@pytest.mark.real
def test_december_2013_calendar_rule_agrees_with_the_volume(december: pl.DataFrame) -> None:
    assert front_periods(december, "calendar").equals(front_periods(december))


def lean_minutes(folder: Path, day: date, name: str) -> pl.DataFrame:
    stem = day.strftime("%Y%m%d")
    with zipfile.ZipFile(folder / "es_lean" / "minute" / f"{stem}_trade.zip") as archive:
        raw = pl.read_csv(
            io.BytesIO(archive.read(f"{stem}_es_minute_trade_{name}.csv")),
            has_header=False,
            new_columns=["ms", "open", "high", "low", "close", "volume"],
        )
    midnight = pl.lit(datetime(day.year, day.month, day.day, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    return raw.select(ts=midnight + pl.duration(milliseconds="ms"), session=pl.lit(day), close="close", volume="volume")


@pytest.mark.real
@pytest.mark.parametrize("day", [date(2013, 12, 18), date(2013, 12, 20)])
def test_december_2013_gap_is_minus_six_and_a_quarter(real_data: Path, day: date) -> None:
    old, new = (lean_minutes(real_data, day, name) for name in ("201312", "201403"))
    step = measure_roll(old, new, day + timedelta(days=1))
    assert step.gap == -6.25
    price = old["close"].median()
    assert step.ratio == pytest.approx(1 + step.gap / price, abs=1e-5)


@pytest.mark.real
def test_scheduled_rolls_lie_in_the_expiry_weeks_of_the_vendors_map(real_data: Path) -> None:
    """The map's last trading days (kind 0) are the Thursdays before expiry, 2009 to 2023."""
    lines = (real_data / "es_lean" / "map_file_es.csv").read_text().splitlines()[1:]
    mapped = [date.fromisoformat(line[:8]) for line in lines if line.endswith(",0")]
    assert len(mapped) > 50
    for day in mapped:
        if day.year < 2024:
            contract = Contract("ES", day.year, day.month)
            assert contract.expiry - day == timedelta(days=1)
            assert contract.scheduled_roll == day - timedelta(days=3)


def test_a_roll_at_a_price_below_zero_has_a_gap_and_says_that_it_has_no_ratio() -> None:
    files = {
        "ESH25": (MONDAY, MONDAY + timedelta(days=4), 10),
        "ESM25": (MONDAY + timedelta(days=7), MONDAY + timedelta(days=11), 10),
    }
    table = weekdays(files)
    front = front_periods(table)
    (note,) = roll_problems(
        table, roll_table(front, lambda old, new, switch: RollStep(58.06, None)), sorted(set(table["session"]))
    )
    assert "a gap of 58.06 points and no ratio" in note


# ---------------------------------------------------------------- steps without common minutes


def last_and_first(opens: list[float], closes: list[float], skip: int = 0) -> pl.DataFrame:
    """Two bars a session, the first and the last minute of trading: one weekday each, from Monday 26 February 2024."""
    days = [day for n in range(60) if (day := date(2024, 2, 26) + timedelta(days=n)).weekday() < 5]
    rows = []
    for day, opened, closed in zip(days[skip:], opens, closes, strict=False):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        rows.append((midnight + timedelta(hours=-1), day, opened, opened))  # 23:00 the day before
        rows.append((midnight + timedelta(hours=21, minutes=59), day, closed, closed))
    schema = {"ts": pl.Datetime("us", "UTC"), "session": pl.Date, "open": pl.Float64, "close": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(volume=pl.lit(9, pl.Int64))


# ten sessions, 26 February to 8 March; eight breaks of one hour move by 4 and 2 in turn, the weekend by 7, a day by 20
BREAKS = [0.0, 4.0, -2.0, 4.0, -2.0, 7.0, -2.0, 4.0, -2.0, 4.0]
CLOSES = [5000.0 + 20 * (n % 2) for n in range(10)]
OPENS = [before + step for before, step in zip([5000.0, *CLOSES], BREAKS, strict=False)]
TUESDAY = date(2024, 3, 12)


def test_an_estimated_step_by_hand() -> None:
    old = last_and_first([*OPENS, 5024.0], [*CLOSES, 5006.0])  # Monday 11 March closes at 5006
    new = last_and_first([5059.0, 5070.0], [5064.0, 5080.0], skip=11)
    step = estimate_roll(old, new, TUESDAY)
    # breaks of one hour: 4 four times, 2 four times; not the weekends of 49 hours (7 and, into Monday, 4)
    assert step == (53.0, 5059.0 / 5006.0, ESTIMATED, pytest.approx(((4 * 16 + 4 * 4) / 8) ** 0.5))


def test_a_step_over_few_breaks_of_its_length_is_scaled_from_days_and_too_uncertain() -> None:
    old, new = last_and_first(OPENS, CLOSES), last_and_first([5070.0], [5080.0], skip=10)
    assert estimate_roll(old, new, SWITCH) == NO_STEP, "one weekend is no measure, and 49 hours are longer than a day"
    assert estimate_roll(old, last_and_first([5070.0], [5080.0], skip=11), TUESDAY) == NO_STEP, "a session is missing"


def test_no_later_price_than_the_open_of_the_first_bar_enters_an_estimate() -> None:
    old = last_and_first([*OPENS, 5024.0], [*CLOSES, 5006.0])
    new = last_and_first([5059.0, 5070.0], [5064.0, 5080.0], skip=11)
    step = estimate_roll(old, new, TUESDAY)
    later = pl.int_range(pl.len()) > 0
    changed = new.with_columns(
        pl.when(later).then(1.0).otherwise("open").alias("open"), pl.lit(2.0).alias("close"), volume=pl.lit(5)
    )
    assert estimate_roll(old, changed, TUESDAY) == step
    assert estimate_roll(old, new.head(1), TUESDAY) == step
    longer = last_and_first([*OPENS, 5024.0, 9000.0], [*CLOSES, 5006.0, 9500.0])
    assert estimate_roll(longer, new, TUESDAY) == step, "the old contract's bars from the switch on"
    assert estimate_roll(old, new.with_columns(pl.col("open") + 1), TUESDAY).gap == 54.0


def test_the_pair_nearest_in_time_is_used() -> None:
    old = last_and_first([*OPENS, 5024.0], [*CLOSES, 5006.0])
    thin = last_and_first([5060.0], [5041.0], skip=10).tail(1)  # one common minute on Monday: too few to measure
    assert measure_roll(old, thin, TUESDAY) == NO_STEP
    new = pl.concat([thin, last_and_first([5059.0], [5064.0], skip=11)])
    assert estimate_roll(old, new, TUESDAY).gap == 35.0


def test_there_is_no_estimate_without_trades_or_history() -> None:
    old = last_and_first([*OPENS, 5024.0], [*CLOSES, 5006.0])
    new = last_and_first([5059.0], [5064.0], skip=11)
    untraded = new.with_columns(volume=pl.Series([0, 9]))
    assert estimate_roll(old, untraded, TUESDAY) == NO_STEP, "its second bar is known too late"
    assert estimate_roll(old, new.head(0), TUESDAY) == NO_STEP
    assert estimate_roll(old.tail(10), new, TUESDAY) == NO_STEP, "five sessions have four moves"
    scaled = (((4 * 400 + 14 * 14) / 5) / 24) ** 0.5  # five days: 20 four times, 14 once; an hour is a 24th of a day
    assert estimate_roll(old.tail(12), new, TUESDAY)[2:] == (ESTIMATED, pytest.approx(scaled)), "four breaks of an hour"
    assert estimate_roll(old.with_columns(pl.col("open", "close") - 6000), new, TUESDAY)[:2] == (6053.0, None)


@pytest.mark.slow
def test_estimated_steps_lie_around_the_true_gap_as_their_uncertainty_says() -> None:
    """Synthetic markets, cut at every third session: the true gap is 36 points at each cut."""
    errors = []
    for seed in range(4):
        plan = plan_market(3, 22)
        blocks = simulate(plan.table, dict.fromkeys(plan.days, 0), np.random.SeedSequence(seed), Planted("martingale"))
        minutes = pl.concat([block.minutes for block in blocks])
        prices = [(pl.col(name) * 0.25).alias(name) for name in ("open", "close")]
        market = minutes.select("ts", "session", *prices, "volume")
        for at in range(70, len(plan.days), 3):
            old = market.filter(pl.col("session").is_between(plan.days[at - 64], plan.days[at - 1]))
            first = market.filter(pl.col("session") == plan.days[at]).with_columns(pl.col("open", "close") + 36)
            step = estimate_roll(old, first, plan.days[at])
            if step.gap is not None and step.uncertainty is not None:
                errors.append((step.gap - 36) / step.uncertainty)
    within = [float(np.mean(np.abs(errors) < limit)) for limit in (1, 2, 3)]
    assert len(errors) > 150
    assert 0.60 < within[0] < 0.85
    assert within[1] > 0.90
    assert within[2] > 0.97
    assert abs(np.mean(errors)) < 0.2


@pytest.mark.real
def test_a_real_contract_cut_at_each_session_has_no_step(real_data: Path) -> None:
    """The true gap is 0. Real breaks have fatter tails than a normal distribution."""
    source = real_data / "es_ninjatrader" / "ES 03-25.Last.txt"
    names = ["time", "open", "high", "low", "close", "volume"]
    raw = pl.read_csv(source, has_header=False, separator=";", new_columns=names)
    end = pl.col("time").str.to_datetime("%Y%m%d %H%M%S", time_unit="us", time_zone="UTC")
    bars = raw.select(end.dt.offset_by("-1m").alias("ts"), pl.col("open", "close").cast(pl.Float64), "volume").sort(
        "ts"
    )
    chicago = pl.col("ts").dt.convert_time_zone("America/Chicago")
    bars = bars.with_columns(session=(chicago + pl.duration(hours=7)).dt.date())
    bars = bars.filter(pl.col("session").dt.weekday() < 6)
    days = bars["session"].unique().sort().to_list()
    steps = [
        estimate_roll(bars.filter(pl.col("session") < day), bars.filter(pl.col("session") == day), day)
        for day in days[7:]
    ]
    errors = [step.gap / step.uncertainty for step in steps if step.gap is not None and step.uncertainty]
    assert len(errors) > 40
    assert np.mean(np.abs(errors) < 1) > 0.65
    assert np.mean(np.abs(errors) < 3) > 0.9


def test_a_hole_in_the_old_file_is_no_move() -> None:
    old = last_and_first([*OPENS, 5024.0], [*CLOSES, 5006.0])
    new = last_and_first([5059.0], [5064.0], skip=11)
    month = pl.duration(days=28)
    before = old.with_columns(pl.col("ts") - month, pl.col("session") - month, pl.col("open", "close") - 900)
    assert estimate_roll(pl.concat([before, old]), new, TUESDAY)[:3] == (53.0, 5059.0 / 5006.0, ESTIMATED)
    twice = estimate_roll(pl.concat([before, old]), new, TUESDAY).uncertainty
    assert twice == pytest.approx(10.0**0.5), "the same breaks twice, and no 900 points between them"


def test_a_stated_gap_gives_a_ratio_at_the_last_close_before_the_roll() -> None:
    old = last_and_first(OPENS, CLOSES)
    assert stated_step(50.5, None, old, SWITCH) == (50.5, 5070.5 / 5020.0, "file", None)
    assert stated_step(50.5, None, old, date(2024, 3, 8)).ratio == 5050.5 / 5000.0
    assert stated_step(50.5, 1.02, old, SWITCH).ratio == 1.02
    assert stated_step(-6000.0, None, old, SWITCH).ratio is None
    assert stated_step(50.5, None, old.head(0), SWITCH).ratio is None


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (RollStep(50.25, 1.01, "file"), "ESM24: gap of 50.25 points to ESH24, as data.rolls states"),
        (RollStep(0.0, 1.0, "adjusted"), "ESM24: gap of 0 points to ESH24, because data.adjusted says"),
        (RollStep(50.0, 1.01, "estimated", 3.149), "nearest in time, uncertainty 3.15 points"),
        (RollStep(50.0, 1.01, "common"), None),
        (NO_STEP, None),
    ],
)
def test_a_step_that_was_not_measured_is_described(step: RollStep, words: str | None) -> None:
    front = front_periods(daily({"ESH24": [90, 80, 40, 10, 10], "ESM24": [1, 20, 60, 90, 90]}))
    found = describe_steps(roll_table(front, lambda old, new, switch: step))
    assert list(found) == ([] if words is None else ["ESM24"])
    assert words is None or words in found["ESM24"]
