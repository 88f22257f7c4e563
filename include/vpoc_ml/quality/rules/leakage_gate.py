"""The questions of gate ``leakage``: does anything the run makes know the future, by proof and by sample?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vpoc_ml.quality.checks import ALL, Check, Measurement

PROVED = "proof_"
"""Begins the name of a check that was made on the markets of the proof, not on the run's own bars."""
SHOWN = 3


@dataclass(frozen=True, slots=True)
class LeakageCheckResult:
    """One check: what it stands for, how many comparisons were made, and what broke it, first stamps included."""

    check: str
    expected: str
    comparisons: int
    broken: tuple[str, ...] = ()
    first: tuple[datetime, ...] = ()


def checks(proved: Sequence[LeakageCheckResult], sampled: Sequence[LeakageCheckResult]) -> list[Check]:
    """Return every question: the proof's once a run, the sample's of its contract."""
    of_code = [Check(PROVED + one.check, ALL, one.expected, whole_run=True) for one in proved]
    return of_code + [Check(one.check, ALL, one.expected) for one in sampled]


def measurements(
    contract: str, proved: Sequence[LeakageCheckResult], sampled: Sequence[LeakageCheckResult]
) -> list[Measurement]:
    """Return the answers; a promise that was never put to the test is broken."""
    of_code = [_tally(ALL, PROVED + one.check, one) for one in proved]
    return of_code + [_tally(contract, one.check, one) for one in sampled]


def _tally(contract: str, name: str, one: LeakageCheckResult) -> Measurement:
    count = len(one.broken) if one.comparisons else 1
    shown = "; ".join(one.broken[:SHOWN]) if one.comparisons else "nothing was compared"
    more = f"; and {len(one.broken) - SHOWN} more" if len(one.broken) > SHOWN else ""
    return Measurement(contract, ALL, name, count, one.comparisons, one.first[:SHOWN], (), shown + more, "comparisons")
