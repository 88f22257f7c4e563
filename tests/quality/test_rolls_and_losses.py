"""Warnings about steps at rolls that were not measured."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

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
