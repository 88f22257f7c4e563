"""Contracts at another price level and sessions delivered twice are found; correct neighbours pass."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.schemas import DAILY_FIGURES
from vpoc_ml.quality.rules.neighbours import measurements

SEED = 5


def figures(code: str, first: date, count: int, *, level: float = 6000.0, seed: int = SEED) -> pl.DataFrame:
    """Return a contract's daily figures; contracts of one seed share the market's moves by date."""
    start = date(2024, 1, 1)
    moves = np.cumsum(np.random.default_rng(seed).normal(0, 30, 700))
    volumes = np.random.default_rng(sum(code.encode())).integers(10_000, 900_000, count)
    rows = []
    for n in range(count):
        day = first + timedelta(days=n)
        close = level + float(np.round(moves[(day - start).days]))
        last = datetime.combine(day, time(20, 59), UTC)
        rows.append((code, day, last, close - 5, close + 20, close - 20, close, float(volumes[n]), 1380))
    return pl.DataFrame(rows, schema=DAILY_FIGURES, orient="row")


H25 = figures("ESH25", date(2024, 11, 20), 100)
M25 = figures("ESM25", date(2025, 2, 10), 100, level=6045.0)
U25 = figures("ESU25", date(2025, 5, 10), 100, level=6090.0)
CHAIN = pl.concat([H25, M25, U25])
CODES = ["ESH25", "ESM25", "ESU25"]


def found(daily: pl.DataFrame | None, codes=CODES, *, level: bool = True) -> dict:
    return {(t.contract, t.check): t for t in measurements(daily, codes, level=level) if t.count}


def scaled(daily: pl.DataFrame, factor: float) -> pl.DataFrame:
    return daily.with_columns(pl.col("open", "high", "low", "close") * factor)


def test_correct_neighbours_pass():
    assert found(CHAIN) == {}
    assert found(None) == {}
    assert len(measurements(None, CODES, level=True)) == 6, "every check is counted"


@pytest.mark.parametrize("factor", [0.01, 0.95, 1.05, 100])
def test_a_contract_at_another_level_is_found_with_its_neighbour(factor):
    daily = pl.concat([H25, scaled(M25, factor), U25])
    own = found(daily)["ESM25", "level"]
    shared = H25.join(M25, on="session")
    assert own.first[0] == shared["session"][0]
    assert "ESH25" in own.note
    assert "ESU25" in own.note
    assert ("ESH25", "level") in found(daily)
    assert found(daily, level=False) == {}, "the curve of a commodity may have any shape"


def test_a_single_contract_is_compared_with_what_the_lake_holds():
    daily = pl.concat([H25, scaled(M25, 1.05)])
    assert set(found(daily, ["ESM25"])) == {("ESM25", "level")}


def test_last_prices_of_other_times_are_not_compared():
    stale = scaled(M25, 1.05).with_columns(pl.col("last") - pl.duration(hours=2))
    assert found(pl.concat([H25, stale])) == {}


@pytest.mark.parametrize(("factor", "fails"), [(0.90, False), (1.4, True), (100, True)])
def test_without_a_shared_session_the_nearest_closes_are_compared(factor, fails):
    """A crash over the roll passes: the distance that is allowed grows with the root of the days between."""
    after = scaled(M25.filter(pl.col("session") > H25["session"][-1]), factor)
    keys = {("ESH25", "level"), ("ESM25", "level")} if fails else set()
    assert set(found(pl.concat([H25, after]))) == keys


def test_a_file_delivered_under_two_names_is_found_in_both():
    """An H contract named M, beside the right H."""
    copied = H25.with_columns(contract=pl.lit("ESM25"))
    both = found(pl.concat([H25, copied]))
    assert set(both) == {("ESH25", "copies"), ("ESM25", "copies")}
    measurement = both["ESM25", "copies"]
    assert (measurement.count, measurement.rows, measurement.first[0]) == (H25.height, H25.height, H25["session"][0])
    assert "same bars as ESH25" in measurement.note


def test_one_copied_session_is_found():
    day = M25["session"][3]
    copied = M25.filter(pl.col("session") == day).with_columns(contract=pl.lit("ESH25"))
    daily = pl.concat([H25.filter(pl.col("session") != day), copied, M25])
    assert found(daily)["ESM25", "copies"].first == (day,)


def test_equal_sessions_of_a_few_bars_are_no_copies():
    rows = H25.with_columns(bars=pl.lit(1, pl.Int64), volume=pl.lit(1.0))
    assert found(pl.concat([rows, rows.with_columns(contract=pl.lit("ESM25"))])) == {}
