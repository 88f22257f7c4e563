"""Runs of past nights: what limits them, and that nothing later reaches them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.artifacts.stage_results import RollsResult, WorkResult
from vpoc_ml.errors import InvalidValueError, MissingInputError
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.nights import past_night
from vpoc_ml.pipeline.roll_stage import with_open_interest
from vpoc_ml.pipeline.run import open_run

from .short_days import DAYS, bars_of, walk

pytestmark = pytest.mark.slow

CALENDAR, NEW_YORK = "CME Globex Equity", ZoneInfo("America/New_York")
NOW = datetime(2024, 7, 1, 22, 30, tzinfo=UTC)


def test_as_of_is_stored_as_utc_and_is_the_clock_of_the_run(lake: str) -> None:
    chicago = timezone(timedelta(hours=-5))
    pipeline.start_run(lake, "may", "smoke", now=NOW, as_of=datetime(2024, 5, 14, 17, 30, tzinfo=chicago))
    run, night = open_run(lake, "may"), datetime(2024, 5, 14, 22, 30, tzinfo=UTC)
    assert run.as_of == run.started == night
    inputs = json.loads(Path(lake, "runs", "may", "inputs.json").read_text())
    assert inputs["as_of"] == "2024-05-14T22:30:00+00:00"
    assert inputs["started"] == NOW.isoformat()


def test_a_live_night_has_no_as_of_and_its_start_is_its_clock(lake: str) -> None:
    pipeline.start_run(lake, "tonight", "smoke", now=NOW)
    run = open_run(lake, "tonight")
    assert run.as_of is None
    assert run.started == NOW


def test_a_run_that_an_earlier_version_started_is_live(lake: str) -> None:
    pipeline.start_run(lake, "old", "smoke", now=NOW)
    file = Path(lake, "runs", "old", "inputs.json")
    inputs = json.loads(file.read_text())
    del inputs["as_of"]
    file.write_text(json.dumps(inputs))
    assert open_run(lake, "old").as_of is None


@pytest.mark.parametrize("as_of", [datetime(2024, 5, 14), NOW + timedelta(seconds=1)])  # noqa: DTZ001 - that is the fault
def test_a_naive_or_future_as_of_is_refused_before_anything_is_stored(lake: str, as_of: datetime) -> None:
    with pytest.raises(InvalidValueError, match="as_of"):
        pipeline.start_run(lake, "may", "smoke", now=NOW, as_of=as_of)
    assert not Path(lake).exists()


# ---------------------------------------------------------------- equal to a run on files that ended that night

FILES = {"ESH24": (0, 50, 0), "ESM24": (30, 113, 45), "ESU24": (90, 120, 105)}  # first, last, first as front; in DAYS
SETTINGS = {"dataset.min_sessions": 6, "dataset.embargo_sessions": 1}
NIGHTS = {
    "before the second contract exists": 29,
    "in the roll week, the old contract leads": 43,
    "the night of the crossover": 44,
    "the first night of the new front": 45,
    "after the roll, the old file still goes on": 48,
    "between the rolls": 80,
    "before the second roll": 104,
    "the last night but one": 119,
}


def write_files(folder: Path) -> None:
    """Write three contracts of 20 minutes a day that overlap at their rolls, the VIX and open interest."""
    folder.mkdir(parents=True)
    starts = [front for _, _, front in FILES.values()] + [10**6]
    interest = []
    for number, (code, (first, last, front)) in enumerate(FILES.items()):
        closes = walk(20_000, first, last, 3) + 50.0 * number
        bars = bars_of(code, first, last, closes, range(front - 1, starts[number + 1] - 1))
        ends = (bars["ts"] + timedelta(minutes=1)).dt.strftime("%Y%m%d %H%M%S")
        rows = zip(ends, *(bars[name] for name in ("open", "high", "low", "close", "volume")), strict=True)
        month = {"H": "03", "M": "06", "U": "09"}[code[2]]
        lines = [";".join(map(str, row)) for row in rows]
        (folder / f"ES {month}-24.Last.txt").write_text("\n".join(lines) + "\n")
        interest += [f"{code},{DAYS[day]},{1000 * (day - front + 100)}" for day in range(first, last + 1)]
    days = pl.date_range(date(2023, 12, 1), date(2024, 7, 31), eager=True)
    values = {day: 15 + index % 7 for index, day in enumerate(days) if day.weekday() < 5}
    closes = [",".join(map(str, (f"{day:%m/%d/%Y}", *[value] * 4))) for day, value in values.items()]
    (folder / "VIX_History.csv").write_text("DATE,OPEN,HIGH,LOW,CLOSE\n" + "\n".join(closes) + "\n")
    (folder.parent / "interest.csv").write_text("contract,session,open_interest\n" + "\n".join(interest) + "\n")


def truncate(source: Path, target: Path, as_of: datetime) -> None:
    """Copy the files as they were at ``as_of``; one without a line by then did not exist."""
    target.mkdir(parents=True)
    for path in source.glob("*.txt"):
        lines = path.read_text().splitlines(keepends=True)
        known = [line for line in lines if line[:15] <= f"{as_of:%Y%m%d %H%M%S}"]
        if known:
            (target / path.name).write_text("".join(known))
    header, *lines = (source / "VIX_History.csv").read_text().splitlines(keepends=True)
    known = [
        line
        for line in lines
        if datetime.strptime(f"{line[:10]} 16:15", "%m/%d/%Y %H:%M").replace(tzinfo=NEW_YORK) <= as_of
    ]
    (target / "VIX_History.csv").write_text(header + "".join(known))


def build(root: Path, run: str, raw: Path, **moments: datetime) -> Lake:
    """Run the data stages up to the training set; return the lake that holds the artifacts."""
    lake = str(root)
    pipeline.start_run(lake, run, "smoke", SETTINGS, str(raw), None, **moments)
    codes = list(pipeline.plan_contracts(lake, run).contracts)
    for code in codes:
        pipeline.ingest_contract(lake, run, code)
    pipeline.build_rolls(lake, run, codes)
    for code in codes:
        pipeline.profile_contract(lake, run, code)
        pipeline.features_contract(lake, run, code)
    pipeline.build_training_set(lake, run, codes)
    return Lake(lake)


def same(one: Lake, other: Lake, prefix: str, runs: tuple[str, str]) -> set[str]:
    """Assert that every artifact below ``prefix`` of ``one`` equals that of ``other``, bit for bit; return the keys."""
    kinds = ("bars", "sessions", "developing", "features", "roll", "vix")
    keys = {key for kind in kinds for key in other.keys(kind)}
    assert {key.removeprefix(prefix) for kind in kinds for key in one.keys(f"{prefix}{kind}")} == keys
    for key in keys:
        assert one.content_hash(prefix + key) == other.content_hash(key), key
    folders = [lake.folder(f"runs/{run}") for lake, run in zip((one, other), runs, strict=True)]
    assert len({Lake(folder).content_hash("training_set.parquet") for folder in folders}) == 1
    return keys


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "raw"
    write_files(folder)
    return folder


@pytest.mark.parametrize("place", NIGHTS.values(), ids=NIGHTS.keys())
def test_a_past_night_equals_a_run_on_files_that_ended_that_night(raw: Path, tmp_path: Path, place: int) -> None:
    night = past_night(CALENDAR, DAYS[place], NOW)
    assert night is not None
    truncate(raw, tmp_path / "then", night)
    then = build(tmp_path / "live", "then", tmp_path / "then", now=night)
    past = build(tmp_path / "lake", "past", raw, now=NOW, as_of=night)
    keys = same(past, then, f"nights/{night:%Y-%m-%dT%H%M%SZ}/", ("past", "then"))
    assert {key for key in keys if key.startswith("features/")} == {
        f"features/ES/{code}.parquet" for code, (first, _, _) in FILES.items() if first <= place
    }


def test_past_nights_leave_the_live_lake_alone_and_a_second_run_of_one_makes_nothing(raw: Path, tmp_path: Path) -> None:
    lake = build(tmp_path / "lake", "live", raw, now=NOW)
    live = {key: lake.content_hash(key) for kind in ("bars", "features", "roll", "vix") for key in lake.keys(kind)}
    for place in (44, 48):
        night = past_night(CALENDAR, DAYS[place], NOW)
        build(tmp_path / "lake", f"night-{place}", raw, now=NOW, as_of=night)
    build(tmp_path / "lake", "again", raw, now=NOW, as_of=night)
    assert {key: lake.content_hash(key) for key in live} == live
    again = open_run(str(tmp_path / "lake"), "again")
    for code in ("ESH24", "ESM24"):
        assert [again.result(each, WorkResult, code).reason for each in ("ingest", "profile", "features")] == [
            "unchanged"
        ] * 3
    assert again.result("rolls", RollsResult).reason == "unchanged"


def test_a_contract_that_did_not_exist_is_refused_by_name(raw: Path, tmp_path: Path) -> None:
    night = past_night(CALENDAR, DAYS[20], NOW)
    settings = {"data.contracts": ["ESM24"]}
    pipeline.start_run(str(tmp_path / "lake"), "past", "smoke", settings, str(raw), None, NOW, night)
    with pytest.raises(MissingInputError, match="ESM24 known by 2024-01-30 23:30 UTC"):
        pipeline.plan_contracts(str(tmp_path / "lake"), "past")


def test_open_interest_of_a_session_is_known_the_next_morning(raw: Path, tmp_path: Path) -> None:
    settings = {"data.roll_rule": "open_interest", "data.open_interest": str(raw.parent / "interest.csv")}
    night = past_night(CALENDAR, DAYS[20], NOW)
    pipeline.start_run(str(tmp_path / "lake"), "past", "smoke", settings, str(raw), None, NOW, night)
    days = pl.DataFrame({"contract": ["ESH24"] * 2, "session": DAYS[19:21], "volume": [1, 1]})
    known = with_open_interest(open_run(str(tmp_path / "lake"), "past"), days)
    assert known["open_interest"].is_null().to_list() == [False, True]
