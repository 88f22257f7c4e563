"""What a run shows of itself before its report exists: its pages so far, its failures, the state of its training.

Reads the small records in the run's folder. Heavy libraries stay out, because a web server builds pages with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.run_summary import StageFailure
from vpoc_ml.artifacts.training_progress import ProgressRecord, WindowRecord, progress_records, split_records

if TYPE_CHECKING:
    from vpoc_ml.lake.store import Lake

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

Written = Mapping[str, datetime]
"""Keys of files and the time of their last write, UTC, as ``storage.written`` returns them."""


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


def failures(lake: Lake, run: str, files: Written | None = None) -> list[FailureRecord]:
    """Return the failures that a run's folder records, oldest first.

    A run of the command line has the records of its stages only. A stage that succeeds later removes its record.

    Args:
        lake: the lake of the run.
        run: name of the run.
        files: the files of the run's folder, or of more, if they are known already.
    """
    files = lake.storage.written(layout.run_folder(run)) if files is None else files
    folders = f"{layout.failures_folder(run)}/", f"{layout.stages_folder(run)}/"
    contents = lake.read_many([key for key in sorted(files) if key.startswith(folders) and key.endswith(".json")])
    recorded = [_read(lake, key, each, files[key]) for key, each in contents.items() if key.startswith(folders[0])]
    failed = {key: each for key, each in contents.items() if key.startswith(folders[1]) and b'"error_type"' in each}
    stages = [_read(lake, key, each, files[key]) for key, each in failed.items()]
    messages = {record.message for record in recorded}
    recorded += [stage for stage in stages if stage.message not in messages]
    return sorted(recorded, key=lambda record: (record.at, record.stage, record.label))


def running_training(lake: Lake, run: str, files: Written, now: datetime) -> RunningTraining | None:
    """Return the training of ``run`` that is in progress at ``now`` (aware); None when there is none.

    ``files`` are the files of the run's folder.
    """
    written = files.get(layout.run_file(run, layout.PROGRESS))
    result = files.get(layout.run_file(run, layout.TRAINING_RESULT))
    if written is None or (result is not None and result >= written) or now - written > SILENT_AFTER:
        return None
    records = progress_records(lake.read_text(layout.run_file(run, layout.PROGRESS)) or "")
    _, epochs = split_records(records)
    sentence, progress = "The first epoch is running.", ""
    if epochs:
        sentence = epochs[-1].to_sentence()
    elif records and isinstance(last := records[-1], WindowRecord):
        progress = f"step {last.step:,} of {last.steps_total:,}, "
    return RunningTraining(sentence, progress, records, written)


def run_pages(run: str, files: Written) -> list[tuple[str, str]]:
    """Return name and key of every page that belongs to a run, the report first.

    ``files`` are the files of the run's folder and of the folder of its reports.
    """
    report = layout.run_file(run, layout.REPORT)
    return [("report", report)] * (report in files) + _pages(f"{layout.REPORTS}/{layout.run_reports(run)}", files)


def shared_pages(files: Written) -> list[tuple[str, str]]:
    """Return name and key of the pages that cover all runs of a lake, such as Data Docs."""
    return _pages(layout.REPORTS, files)


def _pages(folder: str, files: Written) -> list[tuple[str, str]]:
    """Return name and key of the pages directly in a folder, and of the indexes of the folders directly below it."""
    pages, indexes = [], []
    for key in sorted(files):
        if key.startswith(f"{folder}/") and key.endswith(".html"):
            parts = key.removeprefix(f"{folder}/").split("/")
            if len(parts) == 1:
                pages.append((parts[0].removesuffix(".html"), key))
            elif len(parts) == 2 and parts[1] == "index.html":
                indexes.append((parts[0].replace("_", " "), key))
    return pages + indexes


def _read(lake: Lake, key: str, content: bytes, at: datetime) -> FailureRecord:
    """Return a failure's record or a failed stage's; of a damaged one, what is known of it."""
    try:
        record: Mapping[str, Any] = json.loads(content)
        return FailureRecord(
            stage=record["stage"],
            label=record.get("label") or record.get("contract") or "",
            error=record.get("error_type") or record["error"],
            message=record["message"] if "message" in record else record["error"],
            exit_code=record.get("exit_code", 1),
            at=at,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"Expected the record of a failure at {lake.location(key)}; found something else ({error})."
        return FailureRecord(stage=key.rpartition("/")[2].removesuffix(".json"), error="-", message=message, at=at)
