"""Correct volume profiles pass gate ``sessions``; each planted fault is found in its session."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.quality.gates import validate_sessions
from vpoc_ml.quality.rules.sessions_gate import SessionFacts

ES, PROFILE = instrument("ES"), ProfileConfig()
BAD = 4
"""Row of the session in which the faults are planted."""


@pytest.fixture(scope="module")
def tables(request):
    """Return bars, sessions and developing levels: an hour of night and an hour of RTH in each session."""
    from tests.quality.conftest import MINUTES, make_bars, make_calendar

    number = pl.int_range(pl.len()) % MINUTES
    bars = make_bars(make_calendar()).with_columns(rth=number >= MINUTES // 2)
    return bars, build_sessions(bars, ES, PROFILE), build_developing(bars, ES, PROFILE)


@pytest.fixture
def verdict_of(world, tables):
    """Return a function: sessions (and calendar) -> the verdict of the gate."""

    def run(sessions, calendar=None, developing=tables[2]):
        front = (tables[0]["session"][0], tables[0]["session"][-1])
        facts = SessionFacts(
            world.file("sessions", sessions),
            world.file("developing", developing),
            world.file("bars", tables[0]),
            world.calendar if calendar is None else calendar,
            front,
        )
        common = {"run": "run", "reports_dir": world.reports, "now": world.now}
        return validate_sessions({"ESH25": facts}, tick_size=0.25, value_area=PROFILE.value_area, **common)

    return run


def planted(frame, **values):
    at = pl.int_range(pl.len()) == BAD
    return frame.with_columns(
        pl.when(at).then(value).otherwise(pl.col(name)).cast(frame.schema[name]).alias(name)
        for name, value in values.items()
    )


FAULTS = {
    "a VPOC above the high": ({"inside", "ordered", "final"}, {"vpoc": pl.col("high") + 1}),
    "a VAL above the VAH": ({"ordered", "final"}, {"vah": pl.col("val"), "val": pl.col("vah")}),
    "no VPOC although volume was traded": ({"traded", "final"}, {"vpoc": None}),
    "a NaN": ({"nan", "traded", "inside", "ordered", "tick", "final"}, {"vpoc": float("nan")}),
    "a VPOC between two ticks": ({"tick", "final"}, {"vpoc": pl.col("vpoc") + 0.1}),
    "a volume that the bars do not have": ({"sum"}, {"volume": pl.col("volume") + 7}),
    "a value area with half of the volume": ({"area"}, {"va_volume": pl.col("volume") * 0.5}),
    "another high": ({"extremes"}, {"high": pl.col("high") + 50}),
    "RTH with more volume than the session": ({"subset", "sum", "area"}, {"rth_volume": pl.col("volume") * 2}),
    "an RTH VPOC below the low": ({"inside", "ordered"}, {"rth_vpoc": pl.col("rth_low") - 1}),
    "a close that is null": ({"null"}, {"close": None}),
}


def test_correct_profiles_pass(tables, verdict_of):
    verdict = verdict_of(tables[1])
    assert verdict.passed
    assert not verdict.failures, verdict.message()
    assert verdict.checks > 80


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_in_its_session(fault, tables, verdict_of):
    expected, values = FAULTS[fault]
    verdict = verdict_of(planted(tables[1], **values))
    assert not verdict.passed
    found = {failure.check for failure in verdict.failures}
    assert found <= expected, verdict.message()
    assert found, fault
    day = tables[1]["session"][BAD].isoformat()
    assert {failure.first for failure in verdict.failures} == {(day,)}


def test_missing_and_unknown_sessions_are_found(tables, verdict_of):
    sessions = tables[1]
    days = sessions["session"]
    gone = verdict_of(sessions.filter(pl.col("session") != days[BAD]))
    assert {(f.check, f.first) for f in gone.failures} == {
        ("missing_sessions", (days[BAD].isoformat(),)),
        ("calendar", (days[BAD].isoformat(),)),
    }
    moved = planted(sessions, session=days[BAD].replace(year=2024))
    assert {"unknown_sessions", "missing_sessions", "order"} <= {f.check for f in verdict_of(moved).failures}


def test_a_session_of_the_calendar_without_bars_is_a_warning(tables, verdict_of, world):
    extra = world.calendar.with_columns(session=pl.col("session").replace({tables[1]["session"][BAD]: None}))
    assert not verdict_of(tables[1], extra.drop_nulls("session")).failures
    day = world.calendar["session"][0].replace(day=11)  # a Saturday within the front period
    longer = pl.concat([world.calendar, world.calendar.head(1).with_columns(session=pl.lit(day))])
    (failure,) = verdict_of(tables[1], longer).failures
    assert (failure.check, failure.severity, failure.first) == ("calendar", "warning", (day.isoformat(),))


def test_levels_at_the_last_bar_that_differ_are_found(tables, verdict_of):
    other = tables[2].with_columns(val=pl.col("val") - 0.25)
    (failure,) = verdict_of(tables[1], developing=other).failures
    assert (failure.check, failure.count) == ("final", tables[1].height)


def test_a_session_without_volume_has_no_levels(world, tables, verdict_of):
    bars = tables[0].with_columns(
        volume=pl.when(pl.col("session") == tables[1]["session"][BAD]).then(0).otherwise("volume")
    )
    quiet = build_sessions(bars, ES, PROFILE)
    facts = SessionFacts(
        world.file("quiet", quiet),
        world.file("developing", build_developing(bars, ES, PROFILE)),
        world.file("bars", bars),
        world.calendar,
        (bars["session"][0], bars["session"][-1]),
    )
    verdict = validate_sessions(
        {"ESH25": facts}, tick_size=0.25, value_area=0.7, run="r", reports_dir=world.reports, now=world.now
    )
    assert quiet["vpoc"].null_count() == 1
    assert not verdict.failures, verdict.message()


@pytest.mark.parametrize("name", ["vpoc", "rth_high", "volume"])
def test_an_empty_table_or_column_never_passes(tables, verdict_of, name):
    assert not verdict_of(tables[1].clear()).passed
    assert not verdict_of(tables[1].with_columns(pl.lit(None, tables[1].schema[name]).alias(name))).passed
    assert not verdict_of(tables[1].drop(name)).passed
