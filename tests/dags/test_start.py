"""The start of a run: keys, session and clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType
from hypothesis import given
from hypothesis import strategies as st

from vpoc_ml.errors import InvalidValueError, UnknownKeyError

pytestmark = pytest.mark.usefixtures("airflow_home")

THANKSGIVING_FRIDAY_NIGHT = datetime(2025, 12, 25, 23, 30, tzinfo=UTC)  # 17:30 Chicago on Christmas Day


@pytest.fixture
def clock():
    from vpoc_airflow.start import night_of

    return partial(night_of, "CME Globex Equity", now=datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", DagRunType.SCHEDULED, DagRunType.BACKFILL])
def test_scheduled_night_without_session_is_skipped(clock, run_type):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="2025-12-25"):
        clock(run_type, THANKSGIVING_FRIDAY_NIGHT, None)


def test_scheduled_night_is_live_and_a_backfill_of_its_date_is_not(clock):
    tick = datetime(2025, 12, 23, 23, 30, tzinfo=UTC)
    assert clock("scheduled", tick, None) is None
    assert clock("backfill", tick, None) == tick
    assert clock(DagRunType.BACKFILL, tick, None) == tick, "as a task receives it"
    assert clock("backfill", tick, None, now=tick) is None, "the newest night"


def test_a_manual_run_on_a_holiday_is_not_skipped(clock):
    assert clock("manual", THANKSGIVING_FRIDAY_NIGHT, None) is None


def test_named_session_is_the_close_of_that_day_in_chicago(clock):
    assert clock("manual", datetime(2026, 3, 1, tzinfo=UTC), "2025-07-01") == datetime(2025, 7, 1, 22, 30, tzinfo=UTC)


def test_a_named_day_without_session_is_rejected(clock):
    with pytest.raises(InvalidValueError, match="2025-07-05"):
        clock("manual", datetime(2026, 3, 1, tzinfo=UTC), "2025-07-05")


@pytest.mark.parametrize("session", ["2025-02-30", "20250317", "2025-W12-1", "17.03.2025", "03/17/2025", "today", " "])
def test_text_that_is_no_day_is_rejected_with_an_example(clock, session):
    with pytest.raises(InvalidValueError, match="session to be a day, year first, such as 2025-03-17"):
        clock("manual", datetime(2026, 3, 1, tzinfo=UTC), session)


def test_a_day_outside_the_calendar_is_rejected(clock):
    with pytest.raises(InvalidValueError, match="0220-01-02"):
        clock("manual", datetime(2026, 3, 1, tzinfo=UTC), "0220-01-02")


def test_unknown_key_suggests_a_setting_of_the_same_last_name():
    from vpoc_airflow.start import with_conf

    with pytest.raises(UnknownKeyError) as caught:
        with_conf({}, {"seed": 1}, ["training.seed", "evaluation.seed", "preset"])
    assert caught.value.suggestions == ("training.seed", "evaluation.seed")


def test_a_conf_of_the_previous_release_is_accepted_with_a_warning():
    from vpoc_airflow.start import with_conf

    with pytest.warns(FutureWarning, match="conf of the run: recipe is now called preset"):
        assert with_conf({"preset": "nightly"}, {"recipe": "smoke"}, ["preset"]) == {"preset": "smoke"}


@pytest.mark.parametrize(
    ("run_id", "folder"),
    [
        ("manual__2026-11-20T18:22:49.07+00:00", "manual__2026-11-20T18-22-49.07-00-00"),
        ("../../etc", "-..-etc"),
        ("..", "run"),
        ("a b/c", "a-b-c"),
        ("nightly-", "nightly-"),
    ],
)
def test_run_name_stays_inside_the_runs_folder(run_id, folder):
    from vpoc_ml.artifacts.layout import run_name

    assert run_name(run_id) == folder


RUN_IDS = st.text(st.sampled_from("ab0:+-_.~ /é"), max_size=12) | st.text(max_size=300)


@given(RUN_IDS, RUN_IDS)
def test_two_runs_of_airflow_never_share_a_folder(one, other):
    from vpoc_ml.artifacts.layout import dag_run_name, run_name

    dags = ("vpoc_nightly", "vpoc_contracts", "vpoc_search", "vpoc_champion")
    pairs = {(dag, run) for dag in dags for run in (one, other)}
    folders = {dag_run_name(dag, run) for dag, run in pairs}
    assert len(folders) == len(pairs)
    for folder in folders:
        assert folder == run_name(folder)
        assert len(folder) < 255


def test_an_id_that_is_a_folder_name_is_kept_and_any_other_gets_a_hash():
    from vpoc_ml.artifacts.layout import dag_run_name

    assert dag_run_name("vpoc_nightly", "may") == "vpoc_nightly--may"
    colon, dash = (dag_run_name("vpoc_nightly", f"may-14T22{sign}30") for sign in ":-")
    assert dash == "vpoc_nightly--may-14T22-30"
    assert re.fullmatch(r"vpoc_nightly--may-14T22-30--[0-9a-f]{8}", colon)
    assert dag_run_name("vpoc_nightly", colon.removeprefix("vpoc_nightly--")) != colon, "an id that imitates a hash"
