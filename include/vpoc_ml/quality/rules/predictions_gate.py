"""Checks of gate ``predictions``: the champion's scores are finite, recent, complete and spread as on other days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.quality.checks import NONE, Check, Limit, Measurement
from vpoc_ml.quality.measure import EXAMPLES

RECENT = 20
"""Newest sessions with scores that are checked."""
NO_SCORE = 1_000_000
"""Minutes that count as the lag where bars are due and no score exists."""
_MIN_SESSIONS, _MIN_ROWS = 5, 60
_SPREAD = 5.0  # between a quiet and a wild session the standard deviation of the scores differs by a factor of 2 to 3
_ABSTAINED_WARN, _ABSTAINED_FAIL = Limit(share=0.05), Limit(share=0.5)
_UNSCORED_WARN, _UNSCORED_FAIL = Limit(share=0.02), Limit(share=0.5)
_LAG_WARN, _LAG_FAIL = Limit(count=15), Limit(count=1380)  # the newest bars of a deferred contract are not scored

CHECKS = (
    Check("scored", ALL, "scores of new bars", None, warn_if=NONE, whole_run=True),
    Check("waits", ALL, "bars after the champion's training data", None, info_if=NONE, whole_run=True),
    Check("unscored", ALL, "a score for every bar", _UNSCORED_FAIL, _UNSCORED_WARN, whole_run=True),
    Check("lag", "ts", "scores up to the newest bar", _LAG_FAIL, _LAG_WARN, whole_run=True),
    Check("unique", "ts", "each bar scored once", whole_run=True),
    Check("known", "known_at", "scores that exist at the end of their bar", whole_run=True),
    Check("finite", "prediction", "finite predictions", whole_run=True),
    Check("interval", "low", "low <= prediction <= high", whole_run=True),
    Check("direction", "direction", "-1, 0 or +1, and 0 where the row abstains", whole_run=True),
    Check(
        "abstained", "abstained", "few rows unlike the training rows", _ABSTAINED_FAIL, _ABSTAINED_WARN, whole_run=True
    ),
    Check("constant", "prediction", "predictions that vary", None, warn_if=NONE, whole_run=True),
    Check("spread", "prediction", "a spread as in the sessions before", None, warn_if=NONE, whole_run=True),
)


@dataclass(frozen=True, slots=True)
class ScoresFacts:
    """What stage ``score`` did.

    Args:
        scores: The stored scores of the newest sessions, columns as ``schemas.PREDICTIONS``.
        bars: Bars that should have a score, and those that lack one, over all contracts.
        unscored: See ``bars``.
        newest_bar: Timestamp of the newest bar, UTC; None: nothing is due.
        reason: Why nothing was scored; "" if something was.
        refused: Whether the bars, the VIX or the features were too old to be scored.
    """

    scores: pl.DataFrame
    bars: int = 0
    unscored: int = 0
    newest_bar: datetime | None = None
    reason: str = ""
    refused: bool = False


def measurements(facts: ScoresFacts) -> list[Measurement]:
    """Measure every check of ``CHECKS``. Without a champion nothing is due, and every check but ``scored`` holds."""
    rows = facts.scores.select(PREDICTIONS.keys()).sort("ts", "contract")
    waits = not facts.bars
    return [
        Measurement(ALL, ALL, "scored", int(facts.refused), 1, note=facts.reason, unit="runs"),
        Measurement(ALL, ALL, "waits", int(waits), 1, note=facts.reason, unit="runs"),
        Measurement(ALL, ALL, "unscored", facts.unscored, max(facts.bars, 1), unit="bars"),
        _lag(rows, facts),
        _rows(rows, "ts", "unique", pl.struct("ts", "contract").is_duplicated()),
        _rows(rows, "known_at", "known", pl.col("known_at") != pl.col("ts") + timedelta(minutes=1)),
        _rows(rows, "prediction", "finite", ~pl.col("prediction").is_finite()),
        _rows(rows, "low", "interval", ~pl.col("prediction").is_between("low", "high").fill_null(value=True)),
        _rows(rows, "direction", "direction", _wrong_direction()),
        _rows(rows, "abstained", "abstained", pl.col("abstained")),
        *_spread(rows),
    ]


def _wrong_direction() -> pl.Expr:
    return ~pl.col("direction").is_in([-1, 0, 1]) | (pl.col("abstained") & (pl.col("direction") != 0))


def _lag(rows: pl.DataFrame, facts: ScoresFacts) -> Measurement:
    """Measure the minutes between the newest score and the newest bar; without any score, more than is allowed."""
    last: datetime | None = rows["ts"].item(-1) if rows.height else None
    minutes = 0
    if facts.bars and facts.newest_bar is not None:
        minutes = NO_SCORE if last is None else int((facts.newest_bar - last).total_seconds() // 60)
    note = f"the newest bar is {facts.newest_bar}, the newest score {last}" if minutes > 0 else ""
    return Measurement(ALL, "ts", "lag", max(minutes, 0), max(minutes, 1), note=note, unit="minutes")


def _rows(rows: pl.DataFrame, column: str, check: str, bad: pl.Expr) -> Measurement:
    found = rows.filter(bad.fill_null(value=True))
    values = tuple(float(value) for value in found["prediction"].fill_null(float("nan")).head(EXAMPLES))
    return Measurement(ALL, column, check, found.height, rows.height, tuple(found["ts"].head(EXAMPLES)), values)


def _spread(rows: pl.DataFrame) -> list[Measurement]:
    """Compare the standard deviation of the newest full session's predictions with those of the sessions before."""
    days = rows.group_by("session").agg(pl.len().alias("n"), pl.col("prediction").std().alias("spread"))
    full = days.filter(pl.col("n") >= _MIN_ROWS, pl.col("spread").is_finite()).sort("session")
    first: tuple[date, ...] = ()
    flat, odd, note = 0, 0, ""
    if full.height:
        first = (full["session"].item(-1),)
        newest = float(full["spread"].item(-1))
        flat = int(newest == 0)
        before = full["spread"].head(-1).median()
        if full.height > _MIN_SESSIONS and isinstance(before, float) and before > 0:
            odd = int(not before / _SPREAD <= newest <= before * _SPREAD)
            note = f"standard deviation {newest:.3g} in session {first[0]}, before {before:.3g}" if odd else ""
    due = max(full.height, 1)
    return [
        Measurement(ALL, "prediction", "constant", flat, due, first * flat, unit="sessions"),
        Measurement(ALL, "prediction", "spread", odd, due, first * odd, note=note, unit="sessions"),
    ]
