"""Old VIX closes and shifted dates are found; right files pass."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import available_at, read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.quality.checks import MarketFacts
from vpoc_ml.quality.rules import vix_dates
from vpoc_ml.quality.rules.plausibility import readable_rows, session_figures

ES = instrument("ES")
CALENDAR = sessions(ES.calendar, date(2024, 9, 1), date(2025, 6, 1))
LONG = 64


def market(seed: int, count: int = LONG, beta: float = -5.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return sessions with random returns, and VIX closes that follow them as the real ones do (about -0.75)."""
    rng = np.random.default_rng(seed)
    calendar = CALENDAR.filter(pl.col("minutes") > 0).slice(60, count)
    returns = rng.standard_t(4, count) * 0.007
    moves = beta * returns + rng.normal(0, 0.042, count)
    close = 6000 * np.exp(np.cumsum(returns))
    days = calendar.select(
        "session",
        pl.col("open").alias("first"),
        close=pl.Series(close),
        before=pl.Series(close).shift(1),
        steady=pl.lit(value=True),
    )
    before = CALENDAR.filter(pl.col("session") < days["session"][0])["session"].tail(5)
    dates = pl.concat([before, days["session"]])
    levels = 18 * np.exp(np.concatenate([np.zeros(5), np.cumsum(moves)]))
    return days, closes(dates, levels)


def closes(dates: pl.Series, levels) -> pl.DataFrame:
    return pl.DataFrame({"date": dates, "close": levels}).with_columns(available_at=available_at("date"))


def moved(vix: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Return the file with the value of ``rows`` rows later at each date."""
    shifted = vix.with_columns(pl.col("close").shift(-rows)).drop_nulls()
    return closes(shifted["date"], shifted["close"])


def found(days: pl.DataFrame, vix: pl.DataFrame | None, *, implied: bool = True) -> dict:
    measurements = vix_dates.measurements(
        days, "ESH25", CALENDAR, MarketFacts(0.25, vix_implied=implied, vix_closes=vix)
    )
    return {measurement.check: measurement for measurement in measurements if measurement.count}


def test_a_right_file_raises_no_alarm():
    alarms = [seed for seed in range(200) if found(*market(seed))]
    assert alarms == []


def test_a_vix_that_does_not_follow_the_index_raises_no_alarm():
    alarms = [seed for seed in range(200) if found(*market(seed, beta=0.0))]
    assert len(alarms) <= 2, alarms


@pytest.mark.parametrize(("rows", "text"), [(1, "1 session(s) too early"), (2, "2 session(s) too early"), (-1, "late")])
def test_shifted_dates_are_found(rows, text):
    missed = []
    for seed in range(100):
        days, vix = market(seed)
        measurement = found(days, moved(vix, rows)).get("dates")
        if measurement is None:
            missed.append(seed)
        else:
            assert text in measurement.note, seed
    assert len(missed) <= 5, missed


def test_dates_are_not_checked_for_another_vix_or_few_sessions():
    days, vix = market(1)
    early = moved(vix, 1)
    assert "bars see closes of their future" in found(days, early)["dates"].note
    assert found(days, early, implied=False) == {}
    assert found(days.head(vix_dates.MIN_SESSIONS - 1), early) == {}
    assert found(days, None) == {}


def test_sessions_with_an_old_close_are_reported_as_a_range():
    days, vix = market(2)
    gap = (date(2025, 1, 10), date(2025, 1, 30))
    holed = vix.filter(~pl.col("date").is_between(*gap))
    last = holed.filter(pl.col("date") < gap[0])["date"][-1]
    measurement = found(days, holed)["age"]
    sessions_after = CALENDAR.filter(pl.col("session") > last)["session"]
    first, to = sessions_after[vix_dates.MAX_AGE + 1], date(2025, 1, 31)
    size = days.filter(pl.col("session").is_between(first, to)).height
    assert (measurement.count, measurement.first[0]) == (size, first)
    assert measurement.note.startswith(f"sessions {first} to {to} ({size}) see the close of {last};")


def test_a_close_that_is_three_sessions_old_warns_only():
    days, vix = market(3)
    holed = vix.filter(~pl.col("date").is_between(date(2025, 1, 13), date(2025, 1, 15)))
    assert set(found(days, holed)) == {"late"}


def test_the_holidays_of_the_exchange_are_no_hole():
    """The VIX has no close on days on which the futures trade until noon."""
    days, vix = market(4)
    holidays = [date(2024, 12, 25), date(2025, 1, 1), date(2025, 1, 9), date(2025, 1, 20), date(2025, 2, 17)]
    assert not {"age", "late"} & set(found(days, vix.filter(~pl.col("date").is_in(holidays))))


def test_dates_after_the_clock_are_counted_and_named():
    _, vix = market(5)
    last = vix["date"][-1]
    measurement = vix_dates.future(vix, datetime.combine(vix["date"][-3], time(22, 30), UTC))
    assert (measurement.count, measurement.rows) == (2, vix.height)
    assert measurement.first == (vix["date"][-2], last)
    assert f"to {last}, the clock says {vix['date'][-3]}" in measurement.note
    assert vix_dates.future(vix, datetime.combine(last, time(14, 30), UTC)).count == 0, "today's row, unfinished"
    assert vix_dates.future(vix, datetime.combine(last, time(3), UTC)).count == 1, "still the day before in New York"
    assert vix_dates.future(None, datetime.combine(last, time(3), UTC)).count == 0


@pytest.mark.real
def test_the_real_contract_and_vix_pass_and_shifted_ones_fail(real_data):
    vix = read_vix(real_data / "vix" / "vix-daily.csv")
    bars = build_bars(
        real_data / "es_ninjatrader" / "ES 03-25.Last.txt", parse_contract("ESH25"), ES, vix, IngestConfig()
    ).bars
    rows = readable_rows(bars.lazy())
    assert rows is not None
    days = session_figures(rows, CALENDAR)
    assert found(days, vix) == {}
    recent = vix.filter(pl.col("date") > days["session"][0] - timedelta(days=60))
    assert "too early" in found(days, moved(recent, 1))["dates"].note
    assert "too late" in found(days, moved(recent, -1))["dates"].note
