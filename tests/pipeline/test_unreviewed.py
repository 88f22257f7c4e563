"""A run goes on without the contracts and sessions whose hours were not reviewed, and says so."""

from datetime import UTC, date, datetime, timedelta

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import GateFailedError, UnreviewedSessionsError
from vpoc_ml.lake.store import Lake

from .conftest import NOW

NOTE = "calendar CME Globex Equity is reviewed for sessions from 2012-11-19 to 2032-12-31 only"


def write_bars(path, first, sessions):
    """Write 60 bars labelled by their end, from 15:00 UTC on, of consecutive weekdays."""
    days = (first + timedelta(days=number) for number in range(sessions * 2))
    weekdays = [day for day in days if day.weekday() < 5][:sessions]
    starts = [datetime(day.year, day.month, day.day, 15, tzinfo=UTC) for day in weekdays]
    ends = [start + timedelta(minutes=minute) for start in starts for minute in range(1, 61)]
    path.write_text("".join(f"{end:%Y%m%d %H%M%S};1400;1400.5;1399.75;1400.25;100\r\n" for end in ends), newline="")


def test_earlier_contracts_are_left_out_with_a_note_and_the_others_go_on(lake, start, delivery):
    write_bars(delivery / "ES 03-11.Last.txt", date(2011, 1, 3), 5)
    write_bars(delivery / "ES 03-13.Last.txt", date(2012, 10, 1), 5)
    start()
    plan = pipeline.plan_contracts(lake, "night")
    assert plan.contracts == ("ESH23",)
    assert plan.notes == (f"ESH11 left out: {NOTE}", f"ESH13 left out: {NOTE}")
    assert pipeline.ingest_contract(lake, "night", "ESH23").rows_out > 0
    assert pipeline.summarize(lake, "night").notes == plan.notes


def test_contract_that_was_requested_is_left_out_as_well(lake, start, delivery):
    write_bars(delivery / "ES 03-11.Last.txt", date(2011, 1, 3), 5)
    start(overrides={"data.contracts": ["ESH11", "ESH23"]})
    assert pipeline.plan_contracts(lake, "night").contracts == ("ESH23",)


def test_nothing_but_earlier_contracts_is_an_error_that_names_the_first_reviewed_session(lake, start, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    write_bars(folder / "ES 03-11.Last.txt", date(2011, 1, 3), 5)
    start(raw=folder)
    with pytest.raises(UnreviewedSessionsError, match=r"ESH11.*2012-11-19") as caught:
        pipeline.plan_contracts(lake, "night")
    assert caught.value.exit_code == 5


def test_contract_that_reaches_into_reviewed_sessions_keeps_those_and_passes_its_calendar(lake, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    write_bars(folder / "ES 12-12.Last.txt", date(2012, 11, 12), 8)
    overrides = {"data.vix": "none"}
    pipeline.start_run(lake, "night", "smoke", overrides, str(folder), None, NOW)
    assert pipeline.plan_contracts(lake, "night").contracts == ("ESZ12",)
    result = pipeline.ingest_contract(lake, "night", "ESZ12")
    left_out = f"300 rows from 2012-11-12 to 2012-11-16 left out: {NOTE}"
    assert (result.rows_in, result.left_out) == (180, left_out)
    assert pipeline.ingest_contract(lake, "night", "ESZ12").left_out == left_out
    assert pipeline.summarize(lake, "night").notes == (f"ESZ12: {left_out}",)
    pipeline.build_rolls(lake, "night", ["ESZ12"])
    assert Lake(lake).read_frame("bars/ES/ESZ12.parquet")["session"].min() == date(2012, 11, 19)
    with pytest.raises(GateFailedError) as caught:  # of five hours of equal prices, but for no session before
        pipeline.gate_bars(lake, "night", ["ESZ12"])
    assert "2012-11-16" not in str(caught.value)
