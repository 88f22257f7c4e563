"""Coverage of the intervals by hand: which rows count, which sessions, and where the bounds belong to."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.stage_results import Coverage
from vpoc_ml.scoring.coverage import joined_coverage, measure_coverage, measure_track_coverage

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


def track_record(sessions, width, seed=2) -> pl.DataFrame:
    """Sessions of 400 rows whose errors lie evenly within ``width`` of the session."""
    draw, rows = np.random.default_rng(seed), []
    for day in range(sessions):
        errors = draw.uniform(-1, 1, 400) * (width(day) if callable(width) else width)
        rows.append(pl.DataFrame({"y": 0.5 + errors}).with_columns(session=date(2025, 1, 1) + timedelta(days=day)))
    return pl.concat(rows).with_columns(candidate=pl.lit(0.5))


def test_the_track_record_is_measured_with_the_errors_before_it():
    found = measure_track_coverage(track_record(60, 0.4), 0.8, sessions=20)
    assert (found.rows, found.sessions, found.track_sessions) == (8000, 20, 20)
    assert found.share == pytest.approx(0.8, abs=4 * 0.0045 * (1 + 20 / 40) ** 0.5)
    wider = measure_track_coverage(track_record(60, lambda day: 0.4 if day >= 40 else 0.2), 0.8, sessions=20)
    assert wider.share == pytest.approx(0.4, abs=0.03), "errors twice as large lie in the interval half as often"
    assert measure_track_coverage(track_record(10, 0.4), 0.8, sessions=20).sessions == 5
    assert measure_track_coverage(track_record(1, 0.4), 0.8, sessions=20) is None
    assert measure_track_coverage(track_record(9, 0.4), 0.8, sessions=0) is None


def test_parts_are_joined_by_their_rows():
    first = Coverage(share=0.5, rows=100, sessions=2, track_sessions=2)
    joined = joined_coverage((first, None, Coverage(share=1.0, rows=300, sessions=3)))
    assert (joined.share, joined.rows, joined.sessions, joined.track_sessions) == (0.875, 400, 5, 2)
    assert joined_coverage((None, None)) is None
