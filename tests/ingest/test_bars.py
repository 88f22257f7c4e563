"""One vendor file to bars and quarantine, on small files and on the real contract."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import QuarantineLimitError, VixCoverageError
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")
ESH25 = parse_contract("ESH25")
CONFIG = IngestConfig()


def test_bars_have_the_artifact_schema_and_notes(write, minutes, noon: datetime, flat_vix: pl.DataFrame) -> None:
    built = build_bars(write(minutes(noon, 30)), ESH25, ES, flat_vix, CONFIG)
    assert built.bars.schema == {
        "ts": pl.Datetime("us", "UTC"),
        "contract": pl.String(),
        "session": pl.Date(),
        "rth": pl.Boolean(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Int64(),
        "vix": pl.Float64(),
    }
    assert built.bars["ts"][0] == noon
    assert set(built.bars["contract"]) == {"ESH25"}
    assert (built.rows_in, built.reasons) == (30, {})
    assert built.quarantine.is_empty()
    assert any("end of a bar" in note for note in built.notes)


def test_bad_rows_within_the_limit_are_counted_by_reason(write, minutes, noon: datetime, flat_vix) -> None:
    lines = minutes(noon, 240)
    lines[5], lines[7] = "broken", "broken too"
    lines[100], lines[101] = lines[101], lines[100]
    built = build_bars(write(lines), ESH25, ES, flat_vix, CONFIG)
    assert built.rows_in == 240 == built.bars.height + built.quarantine.height
    assert built.reasons == {"unparsable": 2}
    assert built.notes[1:] == ["1 rows were out of order and have been sorted"]


def test_more_bad_rows_than_the_limit_stop_the_file(write, minutes, noon: datetime, flat_vix) -> None:
    lines = minutes(noon, 100)
    lines[3] = lines[4] = "broken"
    with pytest.raises(QuarantineLimitError, match=r"at most 1.00% bad rows; found 2 of 100 \(unparsable: 2\)"):
        build_bars(write(lines), ESH25, ES, flat_vix, CONFIG)
    assert build_bars(write(lines), ESH25, ES, flat_vix, IngestConfig(quarantine_limit=0.02)).bars.height == 98


def test_file_named_after_an_expired_contract_is_stopped(write, minutes, noon: datetime, flat_vix) -> None:
    with pytest.raises(QuarantineLimitError, match="outside exchange hours"):
        build_bars(write(minutes(noon, 100)), parse_contract("ESZ24"), ES, flat_vix, IngestConfig(quarantine_limit=1.0))


def test_vix_of_other_years_is_refused(write, minutes, noon: datetime, flat_vix) -> None:
    with pytest.raises(VixCoverageError, match="overlaps"):
        build_bars(write(minutes(noon, 100)), ESH25, ES, flat_vix.filter(pl.col("date") < date(2024, 6, 1)), CONFIG)


@pytest.fixture(scope="module")
def real(real_data: Path) -> BuiltBars:
    vix = read_vix(real_data / "vix" / "vix-daily.csv")
    return build_bars(real_data / "es_ninjatrader" / "ES 03-25.Last.txt", ESH25, ES, vix, CONFIG)


@pytest.mark.real
def test_real_contract_loses_exactly_its_17_strays(real: BuiltBars) -> None:
    assert real.rows_in == 72_584
    assert real.bars.height == 72_567
    assert real.reasons == {"outside exchange hours": 17}
    assert real.quarantine["volume"].max() == 16
    assert real.bars["vix"].null_count() == 0


@pytest.mark.real
def test_real_contract_has_every_session_and_plausible_counts(real: BuiltBars) -> None:
    counted = real.bars.group_by("session").agg(bars=pl.len(), rth=pl.col("rth").sum())
    table = sessions(ES.calendar, date(2024, 12, 12), date(2025, 2, 27)).join(counted, on="session", how="full")
    assert table.height == 54
    assert not table["bars"].has_nulls()
    assert (table["bars"] <= table["minutes"]).all()
    inner = table.filter(pl.col("session").is_between(date(2024, 12, 13), date(2025, 2, 26)))
    assert (inner["minutes"] - inner["bars"]).max() == 17
    assert (inner["rth_minutes"] - inner["rth"]).max() == 1
    assert (inner["rth"] == 390).sum() == 48
    mourning = table.filter(pl.col("session") == date(2025, 1, 9)).row(0, named=True)
    assert (mourning["rth"], mourning["rth_minutes"], mourning["minutes"], mourning["bars"]) == (0, 0, 930, 929)


@pytest.mark.real
def test_real_vix_is_yesterdays_until_a_quarter_past_four(real: BuiltBars) -> None:
    at = datetime(2024, 12, 18, 21, 15, tzinfo=UTC)  # VIX closed at 15.87 on the 17th and 27.62 on the 18th
    seen = real.bars.filter(pl.col("ts").is_between(at, at + timedelta(minutes=1)))["vix"].to_list()
    assert seen == [15.87, 27.62]
