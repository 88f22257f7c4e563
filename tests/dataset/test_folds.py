"""Folds: every session after the history is tested once, by a window of earlier sessions; a new night moves nothing."""

from __future__ import annotations

import re
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.artifacts.track_record import LabelledSession
from vpoc_ml.config import DatasetConfig, EvaluationConfig
from vpoc_ml.dataset.folds import first_test_session, gap_sessions, labelled_sessions, plan_folds, window_rows
from vpoc_ml.errors import InvalidValueError

MONDAY = date(2024, 1, 1)


def days(*counts: int) -> list[LabelledSession]:
    """Sessions of contracts A, B, ... with these numbers of sessions, on consecutive days."""
    names = [chr(ord("A") + number) for number, count in enumerate(counts) for _ in range(count)]
    return [
        LabelledSession(session=MONDAY + timedelta(days=at), contract=name, rows=1380, digest=f"{at}")
        for at, name in enumerate(names)
    ]


def numbers(part) -> list[int]:
    return [(day - MONDAY).days for day in part]


def test_folds_by_contract_worked_by_hand():
    # 12 sessions before the first fold; window 0..10 (one embargoed): a quarter of 11 sessions is 3 for validation
    first, second = plan_folds(days(15, 5), DatasetConfig(), EvaluationConfig(min_history_sessions=12))
    assert (first.name, numbers(first.test)) == ("A", [12, 13, 14])
    assert (numbers(first.train), numbers(first.validation)) == ([0, 1, 2, 3, 4, 5, 6], [8, 9, 10])
    assert (second.name, numbers(second.test)) == ("B", [15, 16, 17, 18, 19])
    assert (numbers(second.train), numbers(second.validation)) == (list(range(9)), [10, 11, 12, 13])


def test_folds_of_some_sessions_are_named_by_their_first_one():
    folds = plan_folds(days(21), DatasetConfig(), EvaluationConfig(fold="4", min_history_sessions=12))
    assert [fold.name for fold in folds] == ["2024-01-13", "2024-01-17", "2024-01-21"]
    assert [len(fold.test) for fold in folds] == [4, 4, 1]


def test_a_rolling_window_keeps_its_length():
    folds = plan_folds(
        days(60), DatasetConfig(history_sessions=20), EvaluationConfig(fold="10", min_history_sessions=30)
    )
    assert [len(fold.train) + len(fold.validation) for fold in folds] == [19, 19, 19]
    assert numbers(folds[-1].train)[0] == 50 - 1 - 20


def test_no_folds_where_they_are_off_or_the_history_is_short():
    assert plan_folds(days(60), DatasetConfig(), EvaluationConfig(fold="off")) == ()
    assert plan_folds(days(25), DatasetConfig(), EvaluationConfig()) == ()


def test_labels_over_sessions_widen_the_gap():
    dataset = DatasetConfig(horizon="5s")
    assert gap_sessions(dataset) == 5
    fold = plan_folds(days(40), dataset, EvaluationConfig())[0]
    assert numbers(fold.test)[0] - numbers(fold.validation)[-1] == 6
    assert numbers(fold.validation)[0] - numbers(fold.train)[-1] == 6


def test_a_long_gap_delays_the_first_fold():
    # training, gap, a quarter of these 31 for validation, gap
    assert first_test_session(DatasetConfig(horizon="20s"), EvaluationConfig()) == 3 + 20 + 8 + 20
    assert first_test_session(DatasetConfig(), EvaluationConfig()) == 25


def test_a_window_without_training_sessions_is_refused():
    with pytest.raises(InvalidValueError, match=r"dataset\.history_sessions.*at least 7"):
        first_test_session(DatasetConfig(history_sessions=6), EvaluationConfig())


@pytest.mark.parametrize(("train", "validation"), [(0.05, 0.9), (0.3, 0.3), (0.6, 0.2)])
@pytest.mark.parametrize("horizon", ["1m", "3s"])
def test_the_smallest_window_of_the_error_is_the_smallest_that_works(train, validation, horizon):
    dataset = DatasetConfig(train_share=train, validation_share=validation, horizon=horizon, history_sessions=1)
    with pytest.raises(InvalidValueError, match=r"dataset\.history_sessions") as caught:
        first_test_session(dataset, EvaluationConfig())
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    assert plan_folds(days(400), dataset.model_copy(update={"history_sessions": least}), EvaluationConfig())
    with pytest.raises(InvalidValueError, match=f"at least {least}"):
        first_test_session(dataset.model_copy(update={"history_sessions": least - 1}), EvaluationConfig())


def test_a_history_of_all_sessions_is_refused_for_its_shares_only():
    # 0.05 of 0.95: a twentieth of the window trains, and 20 sessions of it are the gap
    small = DatasetConfig(train_share=0.05, validation_share=0.9, horizon="20s")
    first = first_test_session(small, EvaluationConfig())
    assert len(plan_folds(days(first + 5), small, EvaluationConfig())[0].train) == 3
    with pytest.raises(InvalidValueError, match=r"dataset\.train_share.*in a window of 5000"):
        first_test_session(small.model_copy(update={"train_share": 1e-6}), EvaluationConfig())


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    fold=st.sampled_from(["contract", "1", "7", "20"]),
    history=st.sampled_from([0, 10, 40]),
    embargo=st.integers(0, 3),
    horizon=st.sampled_from(["1m", "close", "1s", "3s"]),
    more=st.integers(1, 10),
)
def test_every_session_is_tested_once_by_earlier_ones_and_a_new_night_moves_no_boundary(
    counts, fold, history, embargo, horizon, more
):
    dataset = DatasetConfig(history_sessions=history, embargo_sessions=embargo, horizon=horizon)
    evaluation = EvaluationConfig(fold=fold, min_history_sessions=15)
    sessions = days(*counts)
    first, gap = first_test_session(dataset, evaluation), gap_sessions(dataset)
    folds = plan_folds(sessions, dataset, evaluation)
    tested = [day for each in folds for day in each.test]
    assert tested == [each.session for each in sessions[first:]]
    for each in folds:
        train, validation, test = map(numbers, (each.train, each.validation, each.test))
        assert len(train) >= 3
        assert len(validation) >= 3
        assert train == list(range(train[0], train[-1] + 1))
        assert validation[0] - train[-1] == gap + 1
        assert test[0] - validation[-1] == gap + 1
        assert history == 0 or len(train) + gap + len(validation) <= history
        assert history > 0 or train[0] == 0
    later = plan_folds(days(*counts[:-1], counts[-1] + more), dataset, evaluation)
    for before, after in zip(folds, later, strict=False):
        assert (before.name, before.train, before.validation) == (after.name, after.train, after.validation)
        assert after.test[: len(before.test)] == before.test


def frame(values: list[float]) -> pl.DataFrame:
    start = pl.datetime(2024, 1, 1, time_zone="UTC")
    rows = pl.DataFrame({"session": [MONDAY] * 3 + [MONDAY + timedelta(days=1)] * 3, "ret": values, "mom_5m": values})
    return rows.select(
        (start + pl.duration(minutes=pl.int_range(pl.len()))).alias("ts"), pl.lit("ESH24").alias("contract"), pl.all()
    ).with_columns(pl.col("mom_5m").cast(pl.Float32))


def test_the_digest_of_a_session_covers_its_own_values_only():
    plain = labelled_sessions(frame([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]))
    assert [(each.session, each.contract, each.rows) for each in plain] == [
        (MONDAY, "ESH24", 3),
        (MONDAY + timedelta(days=1), "ESH24", 3),
    ]
    assert plain == labelled_sessions(frame([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]))
    other = labelled_sessions(frame([1.0, 2.0, np.nan, 4.0, 5.0, 6.5]))
    assert other[0] == plain[0]
    assert other[1].digest != plain[1].digest
    fewer = labelled_sessions(frame([1.0, 2.0, np.nan, 4.0, 5.0, 6.0]).drop("mom_5m"))
    assert fewer[0].digest != plain[0].digest


def test_the_rows_of_a_window_leave_out_gaps_and_test_sessions():
    first, second, third, last = (MONDAY + timedelta(days=at) for at in (1, 3, 5, 6))
    rows = pl.DataFrame({"session": [MONDAY + timedelta(days=at) for at in range(9)]})
    window = window_rows(rows, (first, second), (third, last))
    assert numbers(window["session"]) == [1, 2, 3, 5, 6]
    assert window["split"].to_list() == ["train"] * 3 + ["validation"] * 2
