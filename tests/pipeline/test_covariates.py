"""Further indices beside the VIX: joined as known before the bar, judged, and features of their own if asked for."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import GateFailedError, InvalidValueError, MissingInputError, UnreadableFileError, VixCoverageError
from vpoc_ml.lake.store import BuildKey, Lake

from .conftest import NOW

pytestmark = pytest.mark.slow

BARS, FEATURES = "bars/ES/ESH23.parquet", "features/ES/ESH23.parquet"
BOTH = {"ingest.covariates": "VVIX,DGS2=rates.csv@08:30+1"}
DAYS = [day for n in range(120) if (day := date(2022, 12, 1) + timedelta(days=n)).weekday() < 5]
VVIX = {day: round(80 + 5 * np.sin(n), 2) for n, day in enumerate(DAYS)}
DGS2 = {day: round(4 + np.cos(n), 2) for n, day in enumerate(DAYS)}


def write(folder, last: date = DAYS[-1]) -> None:
    """Write both indices up to a date, as Cboe and FRED do."""
    rows = [f"{day:%m/%d/%Y},{value}\n" for day, value in VVIX.items() if day <= last]
    (folder / "VVIX_History.csv").write_text("DATE,VVIX\n" + "".join(rows))
    rows = [f"{day},{value}\n" for day, value in DGS2.items() if day <= last]
    (folder / "rates.csv").write_text("observation_date,DGS2\n" + "".join(rows))


def known(values: dict[date, float], ts: datetime, at: time, days: int) -> list[float]:
    """Values that were published before a moment: each at a New York time, some weekdays after its date."""
    shown = dict(zip(DAYS, DAYS[days:], strict=False))
    clock = ZoneInfo("America/New_York")
    return [value for day, value in values.items() if day in shown and datetime.combine(shown[day], at, clock) < ts]


def test_bars_and_features_know_what_was_published_before_them(lake, start, delivery):
    write(delivery)
    start(overrides=BOTH | {"features.extras": "covariates"})
    pipeline.run_until(lake, "night", "gate-features", NOW)
    bars, features = Lake(lake).read_frame(BARS), Lake(lake).read_frame(FEATURES)
    assert bars.columns[-3:] == ["vix", "vvix", "dgs2"]
    assert features.columns[-4:] == ["vvix_lag1", "vvix_chg_5d", "dgs2_lag1", "dgs2_chg_5d"]
    joined = bars.select("ts", "vvix", "dgs2").join(features, on="ts").gather_every(211)
    for row in joined.iter_rows(named=True):
        for name, values, at, days in (("vvix", VVIX, time(16, 15), 0), ("dgs2", DGS2, time(8, 30), 1)):
            past = known(values, row["ts"], at, days)
            assert row[name] == past[-1]
            assert row[f"{name}_lag1"] == np.float32(past[-1])
            assert np.isclose(row[f"{name}_chg_5d"], past[-1] - past[-6], atol=1e-5)


def test_chunks_give_the_same_features(lake, start, delivery):
    write(delivery)
    settings = BOTH | {"features.extras": "covariates"}
    start("whole", overrides=settings)
    pipeline.run_until(lake, "whole", "features", NOW)
    expected = Lake(lake).read_frame(FEATURES)
    Lake(lake).path(FEATURES).unlink()
    start("chunks", overrides=settings | {"machine.chunk_rows": 2000})
    pipeline.run_until(lake, "chunks", "features", NOW)
    assert Lake(lake).read_frame(FEATURES).equals(expected)


def test_values_after_the_bars_rebuild_nothing_and_another_value_within_does(lake, start, delivery):
    write(delivery, last=DAYS[-10])
    start("one", overrides=BOTH)
    pipeline.run_until(lake, "one", "ingest", NOW)
    write(delivery)
    start("two", overrides=BOTH)
    pipeline.run_until(lake, "two", "ingest", NOW)
    assert Lake(lake).read_json("runs/two/stages/ingest.ESH23.json")["skipped"]
    text = (delivery / "rates.csv").read_text()
    (delivery / "rates.csv").write_text(text.replace(f"2023-01-31,{DGS2[date(2023, 1, 31)]}", "2023-01-31,3.33"))
    start("three", overrides=BOTH)
    pipeline.run_until(lake, "three", "ingest", NOW)
    assert Lake(lake).read_json("runs/three/stages/ingest.ESH23.json")["reason"] == "inputs changed: covariate dgs2"


def test_unknown_values_of_an_index_fail_the_gate_of_the_bars(lake, start, delivery):
    write(delivery)
    start(overrides=BOTH)
    pipeline.run_until(lake, "night", "ingest", NOW)
    opened = Lake(lake)
    bars, made = opened.load(BARS)
    holes = bars.with_columns(vvix=pl.when(pl.int_range(pl.len()) % 2 == 0).then("vvix"))
    opened.write_frame(BARS, holes, BuildKey(made.inputs, made.config, made.code), made.details)
    with pytest.raises(GateFailedError, match="vvix"):
        pipeline.gate_bars(lake, "night", ["ESH23"])


def test_absent_doubled_and_uncovering_files_are_named(lake, start, delivery):
    start("absent", overrides={"ingest.covariates": "VVIX"})
    with pytest.raises(MissingInputError, match=r"a file of VVIX.*VVIX=FILE"):
        pipeline.plan_contracts(lake, "absent")
    start("misspelt", overrides={"ingest.covariates": "VVIX=VVX.csv"})
    with pytest.raises(MissingInputError, match=r"VVX\.csv.*ingest\.covariates"):
        pipeline.plan_contracts(lake, "misspelt")
    write(delivery)
    (delivery / "^VVIX.csv").write_text("Date,Close\n2023-01-03,80.5\n")
    start("twice", overrides=BOTH)
    with pytest.raises(UnreadableFileError, match=r"one file of VVIX; found VVIX_History\.csv, \^VVIX\.csv"):
        pipeline.plan_contracts(lake, "twice")
    start("late", overrides={"ingest.covariates": "VVIX=^VVIX.csv"})
    with pytest.raises(VixCoverageError, match="Expected VVIX closes"):
        pipeline.run_until(lake, "late", "ingest", NOW)


def test_file_named_in_the_setting_is_not_taken_for_the_vix(lake, start, delivery):
    rows = "".join(f"{day},{15 + n % 4}.5\n" for n, day in enumerate(DAYS))
    (delivery / "other.csv").write_text("Date,Close\n" + rows)
    start("unnamed")
    with pytest.raises(UnreadableFileError, match="one VIX file"):
        pipeline.plan_contracts(lake, "unnamed")
    start("named", overrides={"ingest.covariates": "VXN=other.csv"})
    plan = pipeline.plan_contracts(lake, "named")
    assert plan.covariates == {"vxn": str(delivery / "other.csv")}
    assert plan.vix == str(delivery / "VIX_History.csv")
    assert plan.unreadable == ()


def test_family_without_an_index_and_index_without_the_family(lake, start, delivery):
    start("family", overrides={"features.extras": "covariates"})
    with pytest.raises(InvalidValueError, match=r"ingest\.covariates"):
        pipeline.plan_contracts(lake, "family")
    write(delivery)
    start("columns", overrides=BOTH)
    pipeline.run_until(lake, "columns", "features", NOW)
    assert not [name for name in Lake(lake).read_frame(FEATURES).columns if "vvix" in name]
