"""The champion at a time in the past."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vpoc_ml.registry.ledger import LedgerEntry, champions_of
from vpoc_ml.registry.model_key import ModelKey

KEY = ModelKey("ES", "1m", "rank")


def entries(*decisions: tuple[str, str, int]) -> list[LedgerEntry]:
    """Return a ledger of (time of day, action, version)."""
    return [
        LedgerEntry(seq, f"2026-03-02T{time}:00+00:00", action, version, (), "0" * 64, str(KEY))
        for seq, (time, action, version) in enumerate(decisions, start=1)
    ]


@pytest.mark.parametrize(
    ("until", "expected"),
    [((9, 30), []), ((10, 30), [1]), ((11, 0), [1, 2]), ((12, 30), [1]), (None, [1])],
)
def test_decisions_count_from_their_time_on(until, expected):
    ledger = entries(("10:00", "promote", 1), ("11:00", "promote", 2), ("12:00", "rollback", 1))
    when = until and datetime(2026, 3, 2, *until, tzinfo=UTC)
    assert champions_of(ledger, KEY, when) == expected


def test_clock_that_jumped_back_does_not_undo_the_order_of_the_ledger():
    """A rollback dated before the promotion that it takes back."""
    ledger = entries(("10:00", "promote", 1), ("11:00", "promote", 2), ("09:00", "rollback", 1))
    assert champions_of(ledger, KEY, datetime(2026, 3, 2, 9, 30, tzinfo=UTC)) == [1]
    assert champions_of(ledger, KEY, datetime(2026, 3, 2, 8, 30, tzinfo=UTC)) == []


def test_clock_that_was_ahead_for_one_decision_does_not_hide_the_later_ones():
    ledger = entries(("23:00", "promote", 1), ("11:00", "promote", 2))
    assert champions_of(ledger, KEY, datetime(2026, 3, 2, 12, tzinfo=UTC)) == [1, 2]
