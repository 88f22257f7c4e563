"""What a run ends with: the summary of all its records, and its published reports."""

from __future__ import annotations

from collections.abc import Sequence

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.run import Result, run_prefix
from vpoc_ml.pipeline.stages import GATES, STAGE_NAMES

AGE = ("newest_bar", "age_sessions")


def summarize(lake: str, run: str) -> Result:
    """Return everything a person asks after a run, from the records its stages left; a failed run has one too.

    Keys: ``run``, ``preset``, ``config_hash``, ``stages`` (rows in, out and quarantined, skipped,
    why, seconds, error), ``gates``, ``data`` (newest_bar, age_sessions; None before gate ``bars`` passed),
    ``metrics``, ``decision``, ``unreadable``, ``notes`` (files, contracts and sessions that were set apart), ``lost``
    (front sessions that no file holds), ``reports``.

    Raises:
        ArtifactError: no such run was started in this lake.
    """
    opened, prefix = Lake(lake), run_prefix(run)
    records = [opened.read_json(key) for key in opened.names(f"{prefix}/stages", ".json")]
    by_stage = {record["stage"]: record for record in records if "contract" not in record}
    ordered = sorted(records, key=lambda record: (_position(record["stage"]), record.get("contract", "")))
    return {
        "run": run,
        **_configuration(opened, prefix),
        "stages": [_row(record) for record in ordered if "rows_in" in record or "error" in record],
        "gates": [by_stage[f"gate-{gate}"] for gate in GATES if f"gate-{gate}" in by_stage],
        "data": _data(by_stage.get("gate-bars", {})),
        "metrics": opened.read_json(f"{prefix}/metrics.json"),
        "decision": opened.read_json(f"{prefix}/decision.json"),
        "unreadable": by_stage.get("plan", {}).get("unreadable", []),
        "notes": [*by_stage.get("plan", {}).get("notes", []), *_left_out(ordered)],
        "lost": by_stage.get("rolls", {}).get("lost", []),
        "reports": _reports(opened, run),
    }


def _left_out(records: Sequence[Result]) -> list[str]:
    """Return, of each contract, which rows were left out because their sessions were not reviewed."""
    return [f"{record['contract']}: {record['left_out']}" for record in records if record.get("left_out")]


def _data(record: Result) -> Result | None:
    """Return the age of the bars from the record of gate ``bars``; that of an earlier version holds none."""
    return {key: record[key] for key in AGE} if "age_sessions" in record else None


def _position(stage: str) -> int:
    return STAGE_NAMES.index(stage) if stage in STAGE_NAMES else len(STAGE_NAMES)


def _row(record: Result) -> Result:
    keys = ("stage", "contract", "rows_in", "rows_out", "quarantined", "skipped", "seconds", "error")
    return {**{key: record.get(key) for key in keys}, "why": _why(record)}


def _why(record: Result) -> str | None:
    """Return why the stage worked, did not, or failed."""
    if "error" in record:
        return f"failed: {record.get('error_type', 'error')}"
    return record.get("why") or ("unchanged" if record.get("skipped") else None)


def _configuration(lake: Lake, prefix: str) -> Result:
    from vpoc_ml.config.stored import load_stored

    key = f"{prefix}/config.json"
    stored = lake.storage.read(key)
    if stored is None:
        raise ArtifactError(lake.location(prefix), "a started run with its config.json", "none")
    config = load_stored(stored, lake.location(key))
    return {"preset": config.preset, "config_hash": config.digest()}


def _reports(lake: Lake, run: str) -> dict[str, str]:
    candidates = {
        "evaluation": f"{run_prefix(run)}/report.html",
        "gates": f"reports/runs/{run}/gates.html",
        "data docs": "reports/data_docs/index.html",
    }
    return {name: str(lake.location(key)) for name, key in candidates.items() if lake.exists(key)}
