"""The summary of a run, from the records of its stages."""

from __future__ import annotations

from pydantic import JsonValue

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.stage_results import UNCHANGED, DataAge, RunSummary, StageRow
from vpoc_ml.config.stored import load_stored
from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.stages import GATES, STAGE_NAMES

Record = dict[str, JsonValue]


def summarize(lake: str, run: str) -> RunSummary:
    """Return the summary of a run, also of a failed one.

    Raises:
        ArtifactError: no such run was started in this lake.
    """
    opened, key = Lake(lake), layout.run_file(run, layout.CONFIG)
    stored = opened.storage.read(key)
    if stored is None:
        raise ArtifactError(opened.location(layout.run_folder(run)), "a started run with its config.json", "none")
    config = load_stored(stored, opened.location(key))
    records = [opened.read_json(each) for each in opened.names(layout.stages_folder(run), ".json")]
    records.sort(key=lambda record: (_position(record["stage"]), record.get("contract", "")))
    by_stage = {record["stage"]: record for record in records if "contract" not in record}
    plan, bars = by_stage.get("plan", {}), by_stage.get("gate-bars", {})
    unreviewed = [f"{record['contract']}: {record['left_out']}" for record in records if record.get("left_out")]
    reports = {
        "evaluation": layout.run_file(run, layout.REPORT),
        "gates": layout.gates_page(run),
        "data docs": layout.DATA_DOCS_PAGE,
    }
    return RunSummary(
        run=run,
        preset=config.preset,
        config_hash=config.digest(),
        stages=tuple(_row(record) for record in records if "rows_in" in record or "error" in record),
        gates=tuple(by_stage[f"gate-{gate}"] for gate in GATES if f"gate-{gate}" in by_stage),
        data=DataAge.model_validate(bars) if "age_sessions" in bars else None,
        metrics=opened.read_json(layout.run_file(run, layout.METRICS)),
        decision=opened.read_json(layout.run_file(run, layout.DECISION)),
        unreadable=plan.get("unreadable", ()),
        notes=(*plan.get("notes", ()), *unreviewed),
        lost=by_stage.get("rolls", {}).get("lost", ()),
        reports={title: str(opened.location(key)) for title, key in reports.items() if opened.exists(key)},
    )


def _position(stage: str) -> int:
    return STAGE_NAMES.index(stage) if stage in STAGE_NAMES else len(STAGE_NAMES)


def _row(record: Record) -> StageRow:
    """Return the row of a record; its reason says why the stage computed anything, did not, or failed."""
    reason = record.get("reason") or record.get("why")  # the former name
    if "error" in record:
        reason = f"failed: {record.get('error_type', 'error')}"
    elif not reason and record.get("skipped"):
        reason = UNCHANGED
    fields = dict.fromkeys(StageRow.model_fields) | record
    return StageRow.model_validate(fields | {"reason": reason})
