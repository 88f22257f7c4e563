"""Splits: explicit dates, embargo, purge."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.splits import (
    MIN_PART_SESSIONS,
    SessionSplit,
    explain_sessions_needed,
    sessions_needed,
    split_rows,
    split_sessions,
)
from vpoc_ml.errors import InsufficientSessionsError, InvalidValueError

# Twelve trade dates around a weekend and the closed 9 January 2025
DATES = [date(2025, 1, day) for day in (2, 3, 6, 7, 8, 10, 13, 14, 15, 16, 17, 21)]


def test_split_sessions_with_expected_dates():
    split = split_sessions(DATES, DatasetConfig(embargo_sessions=1))
    assert split.train == tuple(date(2025, 1, day) for day in (2, 3, 6, 7, 8, 10))
    # embargo: 13 January
    assert split.validation == (date(2025, 1, 14), date(2025, 1, 15))
    # embargo: 16 January
    assert split.test == (date(2025, 1, 17), date(2025, 1, 21))


def test_split_sessions_without_embargo_uses_every_date_once():
    split = split_sessions(list(reversed(DATES)), DatasetConfig(embargo_sessions=0))
    assert list(split.train + split.validation + split.test) == DATES


@pytest.mark.parametrize("embargo", [0, 1, 3])
@pytest.mark.parametrize("count", [12, 37, 250])
def test_parts_are_ordered_and_exactly_the_embargo_lies_between(embargo, count):
    days = [date(2024, 1, 1) + timedelta(days=offset) for offset in range(count)]
    split = split_sessions(days, DatasetConfig(embargo_sessions=embargo, min_sessions=5))
    position = days.index
    assert position(split.validation[0]) - position(split.train[-1]) == embargo + 1
    assert position(split.test[0]) - position(split.validation[-1]) == embargo + 1
    assert split.test[-1] == days[-1]


def test_too_few_sessions_says_how_many_are_needed():
    config = DatasetConfig(min_sessions=10, embargo_sessions=1)
    with pytest.raises(InsufficientSessionsError) as caught:
        split_sessions(DATES[:9], config)
    assert (caught.value.found, caught.value.needed) == (9, 10)
    assert "evaluation" not in str(caught.value), "one split has no folds"
    assert split_sessions(DATES[:10], config).test


def test_sessions_needed_grows_with_the_embargo_and_is_enough():
    config = DatasetConfig(min_sessions=5, embargo_sessions=20)
    needed = sessions_needed(config)
    days = [date(2024, 1, 1) + timedelta(days=offset) for offset in range(needed)]
    split = split_sessions(days, config)
    assert min(len(split.train), len(split.validation), len(split.test)) >= 1
    with pytest.raises(InsufficientSessionsError):
        split_sessions(days[:-1], config)


@pytest.mark.parametrize(("train", "validation"), [(0.6, 0.2), (0.55, 0.25), (0.7, 0.15), (0.9, 0.05)])
@pytest.mark.parametrize("embargo", [0, 1, 20])
@pytest.mark.parametrize("least", [1, MIN_PART_SESSIONS])
def test_every_number_of_sessions_from_the_one_needed_on_fills_each_part(train, validation, embargo, least):
    config = DatasetConfig(train_share=train, validation_share=validation, embargo_sessions=embargo, min_sessions=5)
    needed = sessions_needed(config, least)
    for count in range(needed, needed + 40):
        days = [date(2020, 1, 1) + timedelta(days=offset) for offset in range(count)]
        split = split_sessions(days, config)
        assert min(len(split.train), len(split.validation), len(split.test)) >= least


def test_sessions_needed_names_shares_that_cannot_be_filled():
    with pytest.raises(InvalidValueError, match=r"dataset\.train_share"):
        sessions_needed(DatasetConfig(train_share=0.9, validation_share=0.0999), MIN_PART_SESSIONS)


def test_the_arithmetic_names_min_sessions_where_it_decides():
    assert "dataset.min_sessions is 40" in explain_sessions_needed(DatasetConfig(min_sessions=40))
    assert "dataset.train_share 0.6" in explain_sessions_needed(DatasetConfig(min_sessions=10), MIN_PART_SESSIONS)


def test_rows_whose_label_reaches_the_next_part_are_purged():
    start = datetime(2025, 1, 2, 12, 0, tzinfo=UTC)
    ts = [start + timedelta(minutes=minute) for minute in range(12)]
    days = [DATES[minute // 4] for minute in range(12)]
    rows = pl.DataFrame(
        {"ts": ts, "session": days, "label_end": [timestamp + timedelta(minutes=2) for timestamp in ts]}
    )
    split = split_rows(rows, SessionSplit((DATES[0],), (DATES[1],), (DATES[2],)))
    kept = {name: split.filter(pl.col("split") == name)["ts"].dt.minute().to_list() for name in ("train", "validation")}
    assert kept == {"train": [0, 1], "validation": [4, 5]}, "label_end equal to the next part's first row is purged"
    assert split.filter(pl.col("split") == "test").height == 4
