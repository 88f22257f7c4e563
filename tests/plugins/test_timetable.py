"""The timetable of contracts: runs, their times and keys, and invalid keys."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "pandas", "polars", "numba", "great_expectations", "mlflow", "sklearn", "scipy", "matplotlib")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def module(airflow_home):
    """What the plugin registered; a DAG file that was read before may have imported the file a second time."""
    from airflow.plugins_manager import get_timetables_plugins
    from airflow.sdk import timezone

    registered = get_timetables_plugins()["vpoc_timetable.ContractPartitionTimetable"]
    grace = sys.modules["vpoc_timetable"].GRACE
    return SimpleNamespace(ContractPartitionTimetable=registered, GRACE=grace, timezone=timezone)


@pytest.fixture
def timetable(module, monkeypatch):
    at(monkeypatch, module, NOW)
    return module.ContractPartitionTimetable("ESU97")


def at(monkeypatch, module, now):
    from airflow.sdk import timezone

    monkeypatch.setattr(module.timezone, "utcnow", lambda: timezone.coerce_datetime(now))


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def keys(timetable, first, last):
    return [info.partition_key for info in timetable.iter_partition_dagrun_infos(earliest=day(first), latest=day(last))]


def following(timetable, *, last=None, earliest=None, latest=None, catchup=False):
    from airflow.timetables.base import DagRunInfo, TimeRestriction

    done = last and DagRunInfo(last, None, partition_date=last, partition_key="any")
    restriction = TimeRestriction(earliest, latest, catchup)
    return timetable.next_dagrun_info_v2(last_dagrun_info=done, restriction=restriction)


# ---------------------------------------------------------------- keys and moments


@pytest.mark.parametrize(
    ("key", "moment"),
    [
        ("ESH25", "2025-03-17T22:30"),  # daylight time began eight days before
        ("ESM25", "2025-06-16T22:30"),
        ("ESU25", "2025-09-15T22:30"),
        ("ESZ25", "2025-12-15T23:30"),
        ("ESH06", "2006-03-13T23:30"),  # until 2006 daylight time began in April
        ("ESH07", "2007-03-12T22:30"),
        ("ESU97", "1997-09-15T22:30"),
    ],
)
def test_key_is_the_close_of_its_roll_day_in_chicago(timetable, key, moment):
    assert timetable.resolve_partition_date(key) == day(moment)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "no contract code"),
        ("tomorrow", "no contract code"),
        ("2025-03-17", "no contract code"),
        ("ESH25 ", "write it ESH25"),
        ("esh25", "write it ESH25"),
        ("ES 03-25", "write it ESH25"),
        ("ESH2025", "write it ESH25"),
        ("ESG25", "H, M, U, Z"),
        ("ESH5", "one-digit year"),
        ("ESM97", "first contract is ESU97"),
        ("NQH25", ""),
        ("XXH25", "no instrument XX"),
    ],
)
def test_a_wrong_key_is_rejected_with_the_reason(timetable, key, reason):
    from airflow.exceptions import InvalidPartitionKeyError

    with pytest.raises(InvalidPartitionKeyError) as caught:
        timetable._decode_partition_date(key)
    assert "such as ESH25" in str(caught.value)
    assert repr(key) in str(caught.value)
    assert reason in str(caught.value)


def test_a_contract_of_another_instrument_is_rejected(module):
    from airflow.exceptions import InvalidPartitionKeyError

    with pytest.raises(InvalidPartitionKeyError):
        module.ContractPartitionTimetable("ESU97").resolve_partition_date("NQH25")


# ---------------------------------------------------------------- a backfill's range


def test_a_range_gives_every_contract_once_in_order(timetable):
    assert keys(timetable, "2023-01-01", "2024-03-11") == ["ESH23", "ESM23", "ESU23", "ESZ23", "ESH24"]
    long = keys(timetable, "1990-01-01", "2100-01-01")
    assert (long[0], long[-1], len(long)) == ("ESU97", "ESU26", 117)
    assert len(set(long)) == len(long)


def test_range_and_key_agree_on_every_contract(timetable):
    infos = list(timetable.iter_partition_dagrun_infos(earliest=day("1990-01-01"), latest=NOW))
    for info in infos:
        assert timetable.resolve_partition_date(info.partition_key) == info.partition_date == info.run_after
        assert info.data_interval is None
    dates = [info.partition_date for info in infos]
    assert dates == sorted(dates)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2024-03-11", "2024-03-11", ["ESH24"]),  # a date is a whole day
        ("2024-03-11", "2024-03-11T17:29", []),  # a time of day is Chicago's
        ("2024-03-11", "2024-03-11T17:30", ["ESH24"]),
        ("2024-03-11T17:30", "2024-03-11T17:30", ["ESH24"]),
        ("2024-03-11T17:31", "2024-03-12", []),
        ("2024-03-12", "2024-06-16", []),
        ("2023-12-11", "2023-12-11", ["ESZ23"]),  # 23:30 UTC, still that day
        ("2024-06-01", "2024-03-01", []),
    ],
)
def test_both_bounds_are_inclusive_and_read_in_chicago(timetable, first, last, expected):
    assert keys(timetable, first, last) == expected


def test_contract_that_is_not_ready_yet_is_left_out(timetable, module, monkeypatch):
    assert keys(timetable, "2026-09-01", "2027-12-31") == ["ESU26"]
    at(monkeypatch, module, day("2026-12-14T23:29:59"))
    assert keys(timetable, "2026-09-01", "2027-12-31") == ["ESU26"]
    at(monkeypatch, module, day("2026-12-14T23:30"))
    assert keys(timetable, "2026-09-01", "2027-12-31") == ["ESU26", "ESZ26"]


# ---------------------------------------------------------------- the scheduler


def test_first_start_waits_for_the_next_contract(timetable):
    info = following(timetable)
    assert (info.partition_key, info.run_after) == ("ESZ26", day("2026-12-14T23:30"))


def test_a_backfill_of_old_contracts_does_not_start_later_ones(timetable):
    assert following(timetable, last=day("2023-06-12T22:30")).partition_key == "ESZ26"


def test_a_contract_missed_while_the_scheduler_was_down_still_starts(timetable, module, monkeypatch):
    at(monkeypatch, module, day("2026-12-20"))
    assert following(timetable, last=day("2026-09-14T22:30")).partition_key == "ESZ26"
    assert following(timetable, last=day("2026-12-14T23:30")).partition_key == "ESH27"
    at(monkeypatch, module, day("2026-12-14T23:30") + module.GRACE + timedelta(seconds=1))
    assert following(timetable, last=day("2026-09-14T22:30")).partition_key == "ESH27"


def test_catchup_takes_every_contract_from_the_start_date_in_order(timetable):
    infos, last = [], None
    while (info := following(timetable, last=last, earliest=day("2025-01-01"), latest=NOW, catchup=True)) is not None:
        infos.append(info)
        last = info.partition_date
    assert [info.partition_key for info in infos] == [f"ES{code}{year}" for year in (25, 26) for code in "HMUZ"][:7]


def test_no_contract_before_the_start_or_after_the_end(timetable):
    assert following(timetable, earliest=day("2027-01-01")).partition_key == "ESH27"
    assert following(timetable, latest=day("2026-12-01")) is None
    assert following(timetable, last=day("2069-12-16T23:30"), catchup=True) is None


# ---------------------------------------------------------------- what Airflow stores


def test_timetable_survives_serialization(timetable, module):
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable

    again = decode_timetable(encode_timetable(module.ContractPartitionTimetable("ESH10")))
    assert type(again) is module.ContractPartitionTimetable
    assert again.serialize() == {"first": "ESH10"}
    assert again.partitioned
    assert "ES" in timetable.summary


def test_run_ids_name_the_contract_and_never_repeat(timetable):
    from airflow.utils.types import DagRunType

    known = {"run_type": DagRunType.BACKFILL_JOB, "run_after": NOW, "data_interval": None, "partition_key": "ESH25"}
    ids = {timetable.generate_run_id(**known) for _ in range(20)}
    assert len(ids) == 20
    assert all(name.startswith("backfill__ESH25__2026-11-20") for name in ids)
    manual = timetable.generate_run_id(run_type=DagRunType.MANUAL, run_after=NOW, data_interval=None)
    assert DagRunType.from_run_id(manual) == DagRunType.MANUAL


def test_manual_run_with_a_logical_date_gets_an_empty_interval(timetable):
    assert timetable.infer_manual_data_interval(run_after=NOW) == (NOW, NOW)


def test_using_the_timetable_imports_nothing_heavy(airflow_home):
    program = (
        "import sys, datetime\n"
        f"sys.path.insert(0, {str(ROOT / 'plugins')!r})\n"
        "import vpoc_timetable\n"
        "at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)\n"
        "timetable = vpoc_timetable.ContractPartitionTimetable('ESU97')\n"
        "assert timetable.resolve_partition_date('ESH24')\n"
        "assert not list(timetable.iter_partition_dagrun_infos(earliest=at, latest=at))\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rsplit("HEAVY ", 1)[1].strip() == "[]"
