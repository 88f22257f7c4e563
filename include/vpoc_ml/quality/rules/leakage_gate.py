"""Checks of gate ``leakage``: no feature or label depends on the future, on test markets and on the run's own bars."""

from __future__ import annotations

from collections.abc import Sequence

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult
from vpoc_ml.quality.checks import Check, Measurement

PROOF = "proof_"
"""Begins the name of a check that was made on the markets of the proof, not on the run's own bars."""
SHOWN = 3


def checks(proved: Sequence[LeakageCheckResult], sampled: Sequence[LeakageCheckResult]) -> list[Check]:
    """Return every check: those of the proof are made once a run, those of the sample per contract."""
    proof = [Check(PROOF + each.check, ALL, each.expected, whole_run=True) for each in proved]
    return proof + [Check(each.check, ALL, each.expected) for each in sampled]


def measurements(
    contract: str, proved: Sequence[LeakageCheckResult], sampled: Sequence[LeakageCheckResult]
) -> list[Measurement]:
    """Return the measurement of every check."""
    named = [(ALL, PROOF + each.check, each) for each in proved]
    named += [(contract, each.check, each) for each in sampled]
    result = []
    for code, name, each in named:
        count, note = 1, "nothing was compared"
        if each.comparisons:
            more = f"; and {len(each.broken) - SHOWN} more" if len(each.broken) > SHOWN else ""
            count, note = len(each.broken), "; ".join(each.broken[:SHOWN]) + more
        first = each.first[:SHOWN]
        result.append(Measurement(code, ALL, name, count, each.comparisons, first, (), note, "comparisons"))
    return result
