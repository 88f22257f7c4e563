"""The first share of the sessions, across a roll."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest

from vpoc_ml.dataset.splits import first_sessions

DAYS = [date(2025, 3, 3) + timedelta(days=n) for n in range(10)]
FRONT = pl.DataFrame(
    {"contract": ["ESH25", "ESM25"], "first_session": [DAYS[0], DAYS[6]], "last_session": [DAYS[5], DAYS[9]]}
)
SESSIONS = {"ESH25": pl.Series(DAYS[:8] * 3), "ESM25": pl.Series(DAYS[4:] * 3)}


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [("ESH25", DAYS[0], DAYS[5]), ("ESM25", DAYS[6], DAYS[9])]),
        (0.8, [("ESH25", DAYS[0], DAYS[5]), ("ESM25", DAYS[6], DAYS[7])]),
        (0.61, [("ESH25", DAYS[0], DAYS[5]), ("ESM25", DAYS[6], DAYS[6])]),
        (0.6, [("ESH25", DAYS[0], DAYS[5])]),
        (0.35, [("ESH25", DAYS[0], DAYS[3])]),
        (1e-9, [("ESH25", DAYS[0], DAYS[0])]),
    ],
)
def test_front_is_cut_after_the_share_of_its_sessions(share, expected):
    assert first_sessions(FRONT, SESSIONS, share).rows() == expected


def test_front_without_any_row_stays_as_it_is():
    empty = {name: pl.Series([], dtype=pl.Date) for name in SESSIONS}
    assert first_sessions(FRONT, empty, 0.5).equals(FRONT)
