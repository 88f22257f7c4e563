"""What the reports pages show of a run beside its files: its failures and the state of its training.

Reads the small JSON records in the run's folder. Heavy libraries stay out, because the API server builds these pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.run_summary import StageFailure
from vpoc_ml.artifacts.training_progress import ProgressRecord, WindowRecord, read_progress, split_records

REFRESH_SECONDS = 10
SILENT_AFTER = timedelta(minutes=15)
"""A training that has written nothing for this long is no longer shown as running."""

ADVICE = {
    2: "Correct the setting in the trigger form, then start the run again.",
    3: "Open the gates page, correct the delivery or the limit that it names, then clear the failed task.",
    4: "Start the run again with a lower learning rate or a more conservative preset.",
    5: "Deliver or correct the input that the message names, then clear the failed task: what is finished is kept.",
}
OTHER_ADVICE = (
    "The machine or the program failed. Airflow repeats a fault of the machine by itself; the task's log has the"
    " traceback. Clear the failed task to try again: what is finished is kept."
)


class FailureRecord(StageFailure):
    """A failure that a run's folder records; ``at`` (UTC) is when the record was written."""

    at: datetime

    @property
    def advice(self) -> str:
        """What to do about the failure."""
        return ADVICE.get(self.exit_code, OTHER_ADVICE)


@dataclass(frozen=True, slots=True)
class RunningTraining:
    """A training in progress: its newest epoch in words, the records of its loss, when the last one was written."""

    sentence: str
    progress: str
    records: list[ProgressRecord]
    written: datetime


def failures(folder: Path) -> list[FailureRecord]:
    """Return the failures that a run's folder records, oldest first.

    A run of the command line has the records of its stages only. A stage that succeeds later removes its record.
    """
    recorded = [_read(file) for file in (folder / layout.FAILURES).glob("*.json")]
    messages = {record.message for record in recorded}
    stages = [_read(file) for file in (folder / layout.STAGES).glob("*.json") if b'"error_type"' in file.read_bytes()]
    recorded += [stage for stage in stages if stage.message not in messages]
    return sorted(recorded, key=lambda record: (record.at, record.stage, record.label))


def running_training(folder: Path, now: datetime) -> RunningTraining | None:
    """Return the training that is in progress at ``now`` (aware); None when there is none."""
    file, result = folder / layout.PROGRESS, folder / layout.TRAINING_RESULT
    if not file.is_file() or (result.is_file() and result.stat().st_mtime_ns >= file.stat().st_mtime_ns):
        return None
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    if now - written > SILENT_AFTER:
        return None
    records = read_progress(folder)
    _, epochs = split_records(records)
    sentence, progress = "The first epoch is running.", ""
    if epochs:
        sentence = epochs[-1].to_sentence()
    elif records and isinstance(last := records[-1], WindowRecord):
        progress = f"step {last.step:,} of {last.steps_total:,}, "
    return RunningTraining(sentence, progress, records, written)


def _read(file: Path) -> FailureRecord:
    """Return a failure's record or a failed stage's; of a damaged one, what is known of it."""
    at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    try:
        record: Mapping[str, Any] = json.loads(file.read_bytes())
        return FailureRecord(
            stage=record["stage"],
            label=record.get("label") or record.get("contract") or "",
            error=record.get("error_type") or record["error"],
            message=record["message"] if "message" in record else record["error"],
            exit_code=record.get("exit_code", 1),
            at=at,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"Expected the record of a failure at {file}; found something else ({error})."
        return FailureRecord(stage=file.stem, error="-", message=message, at=at)
