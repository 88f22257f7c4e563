"""Warnings about steps at rolls that were not measured, and about rows that warm-ups cost."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from vpoc_ml.artifacts.stage_results import RowLoss, TrainingSetResult
from vpoc_ml.market.roll_table import ROLLS


def table(predecessor: str | None, *step: Any) -> pl.DataFrame:
    row = ("ESH25", date(2024, 12, 17), date(2025, 3, 14), predecessor, *step)
    return pl.DataFrame([row], schema=ROLLS, orient="row")


def warnings(verdict: Any, check: str) -> list[tuple[str, str, str]]:
    return [(each.severity, each.contract, each.note) for each in verdict.failures if each.check == check]


@pytest.mark.parametrize(
    ("rolls", "note"),
    [
        (table("ESZ24", 50.0, 1.01, "common", None), None),
        (table(None, None, None, None, None), None),
        (table("ESZ24", 50.0, 1.01, "file", None), "gap of 50 points to ESZ24, as data.rolls states"),
        (table("ESZ24", 50.0, 1.01, "estimated", 4.5), "uncertainty 4.50 points"),
        (table("ESZ24", 0.0, 1.0, "adjusted", None), "pieces of one adjusted series"),
        (table("ESZ24", None, None, None, None), "no ratio to ESZ24"),
        (table("ESZ24", 50.0, None, "common", None), "no ratio to ESZ24"),
        (table("ESZ24", 50.0, 1.01, "estimated", 4.5).with_columns(contract=pl.lit("ESM25")), None),
    ],
)
def test_a_step_that_was_not_measured_is_a_warning(world, validated, rolls, note):
    verdict = validated("features", world.features, rolls=rolls)
    assert verdict.passed
    found = warnings(verdict, "step")
    assert [each[:2] for each in found] == ([] if note is None else [("warning", "ESH25")])
    assert note is None or note in found[0][2]


def losses(*lost: int) -> tuple[RowLoss, ...]:
    reasons = ["warm-up of the first contract", "its own warm-up: no step from the prices of ESZ24"]
    return tuple(
        RowLoss(contract=code, rows=1000, lost=count, reason=reason if count else "")
        for code, count, reason in zip(("ESZ24", "ESH25"), lost, reasons, strict=False)
    )


@pytest.mark.parametrize(
    ("lost", "expected"), [((100, 0), []), ((102, 0), ["ESZ24"]), ((60, 300), ["ESZ24", "ESH25"]), ((0, 0), [])]
)
def test_more_than_a_twentieth_of_the_rows_lost_is_a_warning_with_contracts_and_reasons(
    world, validated, lost, expected
):
    rows = losses(*lost)
    found = warnings(validated("training-set", world.training, losses=rows), "warm_up")
    made = TrainingSetResult(rows_in=2000, rows_out=1900, splits={}, features=(), sha256="", skipped=False, losses=rows)
    if not expected:
        assert found == []
        assert made.lost_rows == ()
        return
    ((severity, _, note),) = found
    assert severity == "warning"
    assert note == "; ".join(made.lost_rows[1:])
    assert [text[:5] for text in made.lost_rows[1:]] == expected
    assert made.to_json()["lost_rows"] == list(made.lost_rows), "the record states them in words"
    assert made.lost_rows[0].startswith(f"{sum(lost)} of 2,000 rows of the front periods ({sum(lost) / 2000:.1%})")


def test_records_without_losses_say_nothing(world, validated):
    assert warnings(validated("training-set", world.training), "warm_up") == []
    record = {"rows_in": 1, "rows_out": 1, "splits": {}, "features": [], "sha256": "", "skipped": False}
    assert TrainingSetResult.model_validate(record).lost_rows == ()
