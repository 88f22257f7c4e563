"""A run in one line: what the pages of many runs show of each. ``index/nights.jsonl`` has the lines of all runs.

Every line follows from the files in the run's folder and is made again from them when it is missing.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from vpoc_ml.artifacts.decision import DecisionState
from vpoc_ml.artifacts.gate_report import Severity
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.stage_results import LiveRecord


class NightGate(JsonArtifact):
    """A gate of a run.

    Attributes:
        gate: name.
        passed: nothing critical failed.
        checks, critical, warning: number of checks, of critical failures, of warnings.
        worst: worst severity by contract, of contracts with a failure.
    """

    gate: str
    passed: bool
    checks: int
    critical: int
    warning: int
    worst: dict[str, Severity] = Field(default_factory=dict)


class NightFailure(JsonArtifact):
    """The first failure of a run; fields as in ``StageFailure``, ``at`` is UTC, ``more`` counts the others."""

    stage: str
    label: str = ""
    error: str
    message: str
    exit_code: int
    at: datetime
    more: int = 0


class NightDecision(JsonArtifact):
    """The decision about a run's candidate, as in ``Decision``.

    Attributes:
        result: result after costs in words; "" where the metrics are absent.
        reason: the first reason that speaks against the candidate; "" where none does.
        person: who overrode the rule or answered; None if the rule alone decided.
    """

    key: str | None
    state: DecisionState
    simulated: bool
    override: bool
    net: float | None
    version: int | None
    champion_before: int | None
    decided_at: str | None
    person: str | None
    reason: str
    result: str


class Night(JsonArtifact):
    """A run.

    Attributes:
        run: name of its folder.
        preset: None before its configuration was stored.
        started: when it began, UTC.
        written: when it last wrote a file, UTC.
        as_of: moment whose knowledge a run of a past night is limited to; None for a live run.
        contracts: number of contracts of the gate on bars.
        newest_bar, age_sessions: age of its bars at its clock; None before the gate on bars passed.
        gates: its gates, in their order.
        failure: None without one.
        decision: None before it.
        live: live record of the champion's preset on this night; None before its first session.
        pages: name and key of its pages.
    """

    run: str
    preset: str | None = None
    started: datetime
    written: datetime
    as_of: datetime | None = None
    contracts: int = 0
    newest_bar: str | None = None
    age_sessions: int | None = None
    gates: tuple[NightGate, ...] = ()
    failure: NightFailure | None = None
    decision: NightDecision | None = None
    live: LiveRecord | None = None
    pages: tuple[tuple[str, str], ...] = ()

    @property
    def failed_gate(self) -> NightGate | None:
        """The first gate that did not pass; None without one."""
        return next((gate for gate in self.gates if not gate.passed), None)
