"""A run as a picture of text: what each step made of the files, which gates passed, where it ended."""

from __future__ import annotations

from collections.abc import Iterator

from vpoc_ml.artifacts.run_summary import FailedStage, GateRecord, RunSummary, StageRow
from vpoc_ml.registry.promotion import title_of

WIDTH = 48
"""Columns of the left part; the gates stand at its right."""

STEPS = (
    ("ingest", "bars", ("bars",)),
    ("profile", "profile", ("sessions",)),
    ("features", "features", ("features", "leakage")),
    ("training-set", "training set", ("training-set",)),
    ("train-fold", "folds", ()),
    ("evaluate", "candidate", ("candidate",)),
    ("decide", "decision", ()),
    ("score", "scores", ("predictions", "monitoring")),
)
"""Stage, name and gates of each step of the picture."""


def picture(summary: RunSummary) -> list[str]:
    """Return the lines of the picture, at most 80 columns wide; it ends at the step that failed or was last."""
    rows: dict[str, list[StageRow]] = {}
    for row in summary.stages:
        rows.setdefault(row.stage, []).append(row)
    gates = {gate.stage.removeprefix("gate-"): gate for gate in summary.gates}
    lines: list[str] = []
    for stage, name, names in STEPS:
        text = _text(stage, rows.get(stage, []), summary)
        if text is None:
            continue
        lines += ["      |"] * bool(lines)
        left = f"  {name:<13} {text}"
        shown = [f"gate {each}: {_verdict(gates[each])}" for each in names if each in gates]
        lines.append(f"{left:<{WIDTH}} {shown[0]}".rstrip() if shown else left)
        lines += [f"{'':<{WIDTH}} {each}" for each in shown[1:]]
    return lines


def _text(stage: str, rows: list[StageRow], summary: RunSummary) -> str | None:
    """Return what a step made, in words; None where the run has not come to it."""
    if any(row.error for row in rows):
        return "FAILED"
    if stage == "decide":
        return None if summary.decision is None else title_of(summary.decision).upper()
    if not rows:
        return None
    made = sum(row.rows_out or 0 for row in rows)
    return "; ".join(_made(stage, rows, made, summary))


def _made(stage: str, rows: list[StageRow], made: int, summary: RunSummary) -> Iterator[str]:
    if stage == "ingest":
        yield f"{made:,} of {len(rows)} contract{'s' if len(rows) != 1 else ''}"
        if quarantined := sum(row.quarantined or 0 for row in rows):
            yield f"{quarantined:,} quarantined"
    elif stage == "profile":
        yield f"{made:,} sessions"
    elif stage == "train-fold":
        yield f"{len(rows)} trained on the past only"
    elif stage == "evaluate":
        ic = summary.metrics.candidate.rank_ic if summary.metrics else None
        yield "trained" if ic is None else f"rank IC {ic.value:.4f} [{ic.low:.4f}, {ic.high:.4f}]"
    elif stage == "score":
        yield f"{made:,} bars" if made else "no bar after the training data"
    else:
        yield f"{made:,} rows"


def _verdict(gate: GateRecord) -> str:
    """Return how a gate ended and how many warnings it has."""
    if isinstance(gate, FailedStage) or not gate.passed:
        return "FAILED"
    return "passed" if not gate.warning else f"{gate.warning:,} warning{'s' if gate.warning != 1 else ''}"
