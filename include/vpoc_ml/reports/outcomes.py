"""How each night ended, in one word, from what it left in the lake and what the scheduler knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from vpoc_ml.artifacts.decision import DecisionState
from vpoc_ml.artifacts.night import Night, NightDecision, NightFailure
from vpoc_ml.errors import GateFailedError
from vpoc_ml.reports.inline_svg import Tone
from vpoc_ml.reports.schedule import NIGHTLY, Schedule, ScheduledRun

Kind = Literal[
    "promoted",
    "refused",
    "failed at a gate",
    "failed",
    "failed on the machine",
    "waiting",
    "rejected",
    "expired",
    "skipped",
    "running",
    "simulated",
    "unfinished",
]
STYLES: dict[Kind, tuple[Tone, str]] = {
    "promoted": ("good", "P"),
    "refused": ("info", "R"),
    "failed at a gate": ("bad", "G"),
    "failed": ("bad", "F"),
    "failed on the machine": ("bad", "M"),
    "waiting": ("warning", "W"),
    "rejected": ("warning", "J"),
    "expired": ("warning", "E"),
    "skipped": ("none", "S"),
    "running": ("info", "…"),
    "simulated": ("none", "H"),
    "unfinished": ("none", "U"),
}
"""Colour and letter of each outcome; the order is that of the legend."""
MEANINGS: dict[Kind, str] = {
    "promoted": "promoted to champion",
    "refused": "refused by the promotion rule",
    "failed at a gate": "failed at a gate",
    "failed": "failed: settings, input or training",
    "failed on the machine": "failed on the machine",
    "waiting": "waiting for approval",
    "rejected": "rejected by a person",
    "expired": "approval expired",
    "skipped": "skipped: no session",
    "running": "running",
    "simulated": "past night, simulated",
    "unfinished": "did not finish",
}
MACHINE_FAILED = 1
"""Exit code of a fault of the machine or the program."""
SILENT_AFTER = timedelta(hours=6)
"""A run without a decision that no scheduler knows counts as running for this long after its last file."""
DAG_PREFIX = "vpoc_"


@dataclass(frozen=True, slots=True)
class ShownNight:
    """A night: the name of its run's folder, when it began (UTC), how it ended, and what is known of it."""

    run: str
    at: datetime
    kind: Kind
    words: str
    night: Night | None = None
    scheduled: ScheduledRun | None = None

    @property
    def tone(self) -> Tone:
        """Colour of the outcome."""
        return STYLES[self.kind][0]

    @property
    def mark(self) -> str:
        """Letter of the outcome."""
        return STYLES[self.kind][1]


def shown_nights(nights: Sequence[Night], schedule: Schedule | None, now: datetime) -> list[ShownNight]:
    """Return the nightly runs, and those of the command line, newest first.

    Args:
        nights: lines of the lake's runs; runs of other DAGs are left out.
        schedule: what the scheduler knows; None where there is none.
        now: the time, aware.
    """
    by_run = {night.run: night for night in nights if is_nightly(night.run)}
    scheduled = {run.name: run for run in schedule.runs} if schedule else {}
    shown = []
    for name in by_run.keys() | scheduled.keys():
        night, run = by_run.get(name), scheduled.get(name)
        at = night.started if night else run.due if run else now
        shown.append(ShownNight(name, at, *outcome(night, run, now), night=night, scheduled=run))
    return sorted(shown, key=lambda each: (each.at, each.run), reverse=True)


def is_nightly(run: str) -> bool:
    """Return whether a run's folder is of the nightly DAG or of the command line, not of another DAG."""
    dag, mark, _ = run.partition("--")
    return not (mark and dag.startswith(DAG_PREFIX)) or dag == NIGHTLY


def outcome(night: Night | None, run: ScheduledRun | None, now: datetime) -> tuple[Kind, str]:
    """Return how a night ended, and the same in words.

    Args:
        night: what its run left in the lake; None: nothing.
        run: what the scheduler knows of it; None: nothing.
        now: the time, aware.
    """
    decision, failure = (night.decision, night.failure) if night else (None, None)
    if run is not None and run.skipped:
        return "skipped", "skipped: no session on this day"
    if (run is not None and run.waiting) or (decision is not None and decision.state == DecisionState.WAITING):
        return "waiting", "waiting for approval"
    if run is not None and run.state in ("queued", "running"):
        return "running", run.state
    if decision is not None and (decision.simulated or decision.state != DecisionState.ACCEPTED):
        return _decided(decision)
    if failure is not None:
        return _failed(failure, night)
    if run is not None and run.state == "failed":
        return "failed on the machine", f"failed on the machine: {run.failed[0] if run.failed else 'no task ended'}"
    if run is None and night is not None and now - night.written < SILENT_AFTER and not night.pages:
        return "running", "running"
    return "unfinished", "accepted, but not promoted" if decision else "ended without a decision"


def _decided(decision: NightDecision) -> tuple[Kind, str]:
    if decision.simulated:
        return "simulated", f"past night: would be {'promoted' if decision.state != 'refused' else 'refused'}"
    match decision.state:
        case DecisionState.PROMOTED if decision.override:
            return "promoted", f"promoted against the rule by {decision.person}"
        case DecisionState.PROMOTED:
            return "promoted", f"promoted, approved by {decision.person}" if decision.person else "promoted"
        case DecisionState.REJECTED:
            return "rejected", f"rejected by {decision.person}"
        case DecisionState.EXPIRED:
            return "expired", "nobody answered the request for approval"
    return "refused", "refused"


def _failed(failure: NightFailure, night: Night | None) -> tuple[Kind, str]:
    gate = night.failed_gate if night else None
    where = " ".join(filter(None, [failure.stage, failure.label]))
    if failure.exit_code == GateFailedError.exit_code:
        return "failed at a gate", f"failed at gate {gate.gate if gate else where}"
    if failure.exit_code == MACHINE_FAILED:
        return "failed on the machine", f"failed on the machine: {where}"
    return "failed", f"failed: {where}"
