"""Checks of gate ``monitoring``: the newest sessions against the champion's training rows, and what it does live.

The gate runs after promotion and scoring, so it never stops a new model: drift is a reason to retrain. An error fails
the run at its end, which raises an alert. ``SEVERITIES`` has all severities in one table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.monitoring.distances import KS, MEAN, MISSING, PSI, SCALE, UP
from vpoc_ml.monitoring.limits import DistanceLimits
from vpoc_ml.quality.checks import NONE, Check, Limit, Measurement

LATE, SCORED, REFERENCE, FADING, COVERAGE = "late", "scored", "reference", "fading", "coverage"


class Levels(NamedTuple):
    """Whether a check can warn, whether it can fail the gate, and why not more."""

    warns: bool
    fails: bool
    reason: str


SEVERITIES = {
    PSI: Levels(True, True, "a large drift makes the champion's scores worthless"),
    KS: Levels(True, True, "as PSI; it also sees a shift inside the outer deciles"),
    MISSING: Levels(True, True, "the model replaces missing values by the median, so it would go unnoticed"),
    MEAN: Levels(True, False, "a trend of a week is no fault of data or model"),
    SCALE: Levels(True, True, "returns of another scale: another market, or wrong prices"),
    UP: Levels(True, False, "a trend of a week is no fault of data or model"),
    LATE: Levels(True, False, "gate bars fails above quality.max_age_sessions; the remark covers the nights before"),
    SCORED: Levels(False, True, "stage score refuses and the run goes on; nothing else fails"),
    REFERENCE: Levels(True, False, "a champion of an earlier version has none; the next one has"),
    FADING: Levels(True, True, "an error at a tenth of the rate of false alarms of a warning"),
    COVERAGE: Levels(True, True, "intervals that do not hold what they state mislead whoever trades them"),
}
"""By name of the check."""

TEXTS = {
    PSI: "PSI of the newest sessions as among blocks of training sessions",
    KS: "KS distance of the newest sessions as among blocks of training sessions",
    MISSING: "no more missing values than in training",
    MEAN: "a mean return as in training",
    SCALE: "returns of the scale of training",
    UP: "as many positive returns as in training",
}
UNITS = 1000
"""Distances are counted in thousandths."""
MOST = 100 * UNITS
"""Largest distance that is counted; Great Expectations accepts no share above 1."""


@dataclass(frozen=True)
class Distance:
    """A distance of a column from the training rows and its limits."""

    column: str
    name: str
    value: float
    limits: DistanceLimits


@dataclass(frozen=True)
class Facts:
    """What gate ``monitoring`` is made of. None: not measured tonight, so there is no check.

    Args:
        late_sessions: sessions that were over at the run's clock and have no bar.
        allowed_late: how many of them do not warn.
        distances: of features and label; empty without a reference.
        has_reference: whether the champion has a reference.
        refused: why nothing was scored; empty if something was.
        fading: log of the champion's e-detector, and the log from which on a signal counts as fading.
        coverage: share of the returns in the intervals, and the stated one.
        coverage_floor: shortfall of the coverage that is an error.
    """

    late_sessions: int
    allowed_late: int = 0
    distances: tuple[Distance, ...] = ()
    has_reference: bool | None = None
    refused: str | None = None
    fading: tuple[float, float] | None = None
    coverage: tuple[float, float] | None = None
    coverage_floor: float = 0.15


FADING_ERROR = math.log(10)
"""An error is ten times rarer than a warning."""


def gate_checks(facts: Facts) -> list[Check]:
    """Return the checks of what was measured."""
    found = [_check(LATE, ALL, "bars of every session that is over", Limit(count=facts.allowed_late), None)]
    if facts.has_reference is not None:
        found.append(_check(REFERENCE, ALL, "a champion with a reference of its training rows", NONE, None))
    for each in facts.distances:
        warning, error = _limit(each.limits.warning), each.limits.error
        text = f"{TEXTS[each.name]} (largest {each.limits.largest:.3f})"
        found.append(_check(each.name, each.column, text, warning, None if error is None else _limit(error)))
    if facts.refused is not None:
        found.append(_check(SCORED, ALL, "scores of the newest bars", None, NONE))
    if facts.fading is not None:
        limit = facts.fading[1]
        found.append(
            _check(FADING, ALL, "a live signal as on the track record", _limit(limit), _limit(limit + FADING_ERROR))
        )
    if facts.coverage is not None:
        floor = facts.coverage_floor
        expected = f"intervals that hold {facts.coverage[1]:.0%} of the returns"
        found.append(_check(COVERAGE, ALL, expected, _limit(floor / 3), _limit(floor)))
    return found


def gate_measurements(facts: Facts) -> list[Measurement]:
    """Return the measurement of every check of ``gate_checks``."""
    found = [_counted(LATE, facts.late_sessions, max(facts.late_sessions, 1), "sessions")]
    if facts.has_reference is not None:
        found.append(_counted(REFERENCE, int(not facts.has_reference), 1, "models"))
    for each in facts.distances:
        note = f"{each.value:.3f}; largest block of training sessions {each.limits.largest:.3f}"
        found.append(_shared(each.name, each.column, each.value, note))
    if facts.refused is not None:
        found.append(_counted(SCORED, int(bool(facts.refused)), 1, "nights", facts.refused))
    if facts.fading is not None:
        note = f"evidence of less than half of the track record's rank IC: e^{facts.fading[0]:.2f}"
        found.append(_shared(FADING, ALL, max(facts.fading[0], 0.0), note))
    if facts.coverage is not None:
        share, stated = facts.coverage
        found.append(_shared(COVERAGE, ALL, max(stated - share, 0.0), f"held {share:.1%}, stated {stated:.1%}"))
    return found


def changed_settings(before: Mapping[str, object], now: Mapping[str, object]) -> tuple[str, ...]:
    """Return the settings of section ``monitoring`` that differ from their defaults, each with its usual value."""
    return tuple(f"{name}={now[name]} (usually {before[name]})" for name in before if now[name] != before[name])


def _check(name: str, column: str, expected: str, warning: Limit | None, error: Limit | None) -> Check:
    """Return a check with the severities that ``SEVERITIES`` allows."""
    levels = SEVERITIES[name]
    return Check(
        name, column, expected, error if levels.fails else None, warning if levels.warns else None, whole_run=True
    )


def _counted(check: str, count: int, rows: int, unit: str, note: str = "") -> Measurement:
    return Measurement(ALL, ALL, check, count, rows, note=note, unit=unit)


def _shared(check: str, column: str, value: float, note: str) -> Measurement:
    return Measurement(ALL, column, check, min(round(UNITS * value), MOST), MOST, note=note, unit="thousandths")


def _limit(value: float) -> Limit:
    return Limit(count=round(UNITS * value))
