"""What a run ends with: the summary of all its records, and its published reports."""

from __future__ import annotations

import json
from pathlib import Path

from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.run import Result, run_folder

GATES = ("bars", "features", "training-set")


def summarize(lake: str, run: str) -> Result:
    """Return everything a person asks after a run, from the records its stages left; a failed run has one too.

    Keys: ``run``, ``recipe``, ``config_hash``, ``stages`` (rows in, out and quarantined, skipped,
    why, seconds, error), ``gates``, ``metrics``, ``decision``, ``unreadable``, ``reports``.
    """
    folder = run_folder(Lake(lake), run)
    records = [json.loads(path.read_text()) for path in sorted((folder / "stages").glob("*.json"))]
    by_stage = {record["stage"]: record for record in records if "contract" not in record}
    ordered = sorted(records, key=lambda record: (_position(record["stage"]), record.get("contract", "")))
    return {
        "run": run,
        **_configuration(folder),
        "stages": [_row(record) for record in ordered if "rows_in" in record or "error" in record],
        "gates": [by_stage[f"gate-{gate}"] for gate in GATES if f"gate-{gate}" in by_stage],
        "metrics": _read(folder / "metrics.json"),
        "decision": _read(folder / "decision.json"),
        "unreadable": by_stage.get("plan", {}).get("unreadable", []),
        "reports": _reports(Lake(lake).root, folder),
    }


def _position(stage: str) -> int:
    from vpoc_ml.pipeline.order import STAGES

    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _row(record: Result) -> Result:
    keys = ("stage", "contract", "rows_in", "rows_out", "quarantined", "skipped", "seconds", "error")
    return {**{key: record.get(key) for key in keys}, "why": _why(record)}


def _why(record: Result) -> str | None:
    """Return why the stage worked, did not, or failed."""
    if "error" in record:
        return f"failed: {record.get('error_type', 'error')}"
    return record.get("why") or ("unchanged" if record.get("skipped") else None)


def _configuration(folder: Path) -> Result:
    from vpoc_ml.config import load

    path = folder / "config.json"
    if not path.is_file():
        return {"recipe": None, "config_hash": None}
    config = load(path.read_text())
    return {"recipe": config.recipe, "config_hash": config.digest()}


def _reports(root: Path, folder: Path) -> dict[str, str]:
    candidates = {
        "evaluation": folder / "report.html",
        "gates": root / "reports" / "runs" / folder.name / "gates.html",
        "data docs": root / "reports" / "data_docs" / "index.html",
    }
    return {name: str(path) for name, path in candidates.items() if path.is_file()}


def _read(path: Path) -> Result | None:
    if not path.is_file():
        return None
    content: Result = json.loads(path.read_text())
    return content
