"""Coverage of the intervals by hand: which rows count, which sessions, and where the bounds belong to."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.scoring.coverage import measure_coverage

QUANTILES = (-2.0, -1.0, 0.0, 1.0, 2.0)  # ranks 0, 0.25, 0.5, 0.75, 1


def scores(rows) -> pl.DataFrame:
    """Rows of (day, low, high, abstained), one minute after the other."""
    start = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
    columns = list(zip(*rows, strict=True))
    return pl.DataFrame(
        {
            "ts": pl.Series([start + timedelta(minutes=at) for at in range(len(rows))], dtype=pl.Datetime("us", "UTC")),
            "contract": "ESH25",
            "session": [date(2025, 1, day) for day in columns[0]],
            "low": pl.Series(columns[1], dtype=pl.Float64),
            "high": pl.Series(columns[2], dtype=pl.Float64),
            "abstained": list(columns[3]),
        }
    )


def labels(frame, returns) -> pl.DataFrame:
    return frame.select("ts", "contract").with_columns(ret=pl.Series(returns, dtype=pl.Float64))


def test_bounds_belong_to_the_interval_and_only_stated_and_labelled_rows_count():
    frame = scores(
        [
            (6, 0.25, 0.75, False),  # return -1 has rank 0.25: inside
            (6, 0.26, 0.75, False),  # outside
            (6, 0.0, 0.1, True),  # abstained
            (6, None, None, False),  # without an interval
            (7, 0.0, 1.0, False),  # no label yet
            (7, 0.0, 0.5, False),  # rank 0.5: inside
        ]
    )
    found = measure_coverage(frame, labels(frame, [-1, -1, 2, 2, float("nan"), 0]), QUANTILES, sessions=5)
    assert (found.share, found.rows, found.sessions) == (pytest.approx(2 / 3), 3, 2)


def test_only_the_newest_sessions_count_and_without_a_label_there_is_none():
    frame = scores([(6, 0.9, 1.0, False), (7, 0.0, 1.0, False), (8, 0.0, 1.0, False), (9, 0.0, 1.0, False)])
    found = measure_coverage(frame, labels(frame, [0, 0, 0, None]), QUANTILES, sessions=2)
    assert (found.share, found.rows, found.sessions) == (1.0, 2, 2)
    assert measure_coverage(frame, labels(frame, [None] * 4), QUANTILES, sessions=2) is None
