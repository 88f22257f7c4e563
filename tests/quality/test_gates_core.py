"""Clean files pass every gate; planted faults are found with their exact count and first timestamps."""

from __future__ import annotations

import pytest

GATES = {"bars": "bars", "features": "features", "training-set": "training"}


@pytest.mark.parametrize("gate", GATES)
def test_clean_files_pass_without_any_failure(world, judged, gate):
    verdict = judged(gate, getattr(world, GATES[gate]))
    assert verdict.passed, verdict.message()
    assert not verdict.failures, verdict.message()
    assert verdict.checks > 20
