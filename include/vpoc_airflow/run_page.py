"""What the reports pages show of a run beside its files: why it failed, and how its training is going.

Reads the small JSON records in the run's folder. Heavy libraries stay out: the API server builds these pages.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vpoc_ml.training.loop.log import epoch_sentence, read_progress

REFRESH_SECONDS = 10
SILENT_AFTER = timedelta(minutes=15)
"""A training that has written nothing for so long is no longer shown as running."""

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
STYLE = """.failed{color:#b42318;font-weight:600}td.text{white-space:pre-line}
table.failures td,table.failures th{width:auto;vertical-align:top}
figure.curves{margin:1rem 0;max-width:60rem}figure.curves svg{width:100%;height:auto;color:inherit}
.train{stroke:#0072b2}.validation{stroke:#e69f00}.constant{stroke:currentColor;stroke-dasharray:5 4;opacity:.7}
@media(prefers-color-scheme:dark){.failed{color:#ff8b80}.train{stroke:#6bb2f5}}"""


def failures(folder: Path) -> list[dict[str, Any]]:
    """Return the failures that a run's folder records, oldest first: ``stage``, ``label``, ``error``, ``message``.

    ``at`` (aware) is when the record was written. A run of the command line has the records of its stages only.
    A stage that succeeds later removes its record.
    """
    recorded = [_read(file) for file in (folder / "failures").glob("*.json")]
    messages = {record["message"] for record in recorded}
    stages = [_read(file) for file in (folder / "stages").glob("*.json") if b'"error_type"' in file.read_bytes()]
    recorded += [stage for stage in stages if stage["message"] not in messages]
    return sorted(recorded, key=lambda record: (record["at"], record["stage"], record["label"]))


def failure_section(found: Sequence[Mapping[str, Any]], gates_url: str | None) -> str:
    """Return the HTML of a run's failures: when, where, what, and what to do. ``gates_url``: the gates page, if any."""
    if not found:
        return ""
    rows = "".join(_failure_row(record, gates_url) for record in found)
    head = (
        "<tr><th>Time (UTC)</th><th>Stage</th><th>Contract</th><th>Error</th><th>Message</th><th>What to do</th></tr>"
    )
    return f'<h2 class="failed">Failed</h2><table class="failures">{head}{rows}</table>'


def failure_summary(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the HTML of a run's failures for one cell of the index; "" when there are none."""
    if not found:
        return ""
    first = found[0]
    text = "\n".join(f"{each['error']}: {each['message']}" for each in found)
    where = f"{first['stage']} {first['label']}".strip()
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f'<details><summary class="failed">failed: {html.escape(where)}{more}</summary>'
        f'<span style="white-space:pre-line">{html.escape(text)}</span></details>'
    )


def _failure_row(record: Mapping[str, Any], gates_url: str | None) -> str:
    advice = html.escape(ADVICE.get(record["exit_code"], OTHER_ADVICE))
    if gates_url and record["error"] == "GateFailedError":
        advice += f' <a href="{gates_url}">gates page</a>'
    cells = (f"{record['at']:%Y-%m-%d %H:%M:%S}", record["stage"], record["label"] or "-", record["error"])
    plain = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
    return f'<tr>{plain}<td class="text">{html.escape(str(record["message"]))}</td><td>{advice}</td></tr>'


def training_section(folder: Path, now: datetime) -> str:
    """Return the HTML of a training that is running at ``now`` (aware): its curves and its last epoch; else ""."""
    file, result = folder / "progress.jsonl", folder / "training_result.json"
    if not file.is_file() or (result.is_file() and result.stat().st_mtime_ns >= file.stat().st_mtime_ns):
        return ""
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    if now - written > SILENT_AFTER:
        return ""
    lines = read_progress(folder)
    epochs = [line for line in lines if line["kind"] == "epoch"]
    last = html.escape(epoch_sentence(epochs[-1])) if epochs else "The first epoch is running."
    step = f"step {lines[-1]['step']:,} of {lines[-1].get('steps_total', 0):,}, " if lines and not epochs else ""
    return (
        f"<h2>Training</h2><p>{last}</p>{curves(lines)}"
        f"<p><small>{step}last record at {written:%H:%M:%S} UTC; this page reloads itself.</small></p>"
    )


def curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the loss over the steps as an SVG figure: training and validation by epoch, and the constant's loss."""
    epochs = [line for line in lines if line["kind"] == "epoch"]
    windows = [line for line in lines if line["kind"] == "window"]
    points = {
        "train": _points(epochs, "train_loss") if len(epochs) > 1 else _points(windows, "loss"),
        "validation": _points(epochs, "validation_loss"),
        "constant": _points(epochs, "validation_constant"),
    }
    every = [point for each in points.values() for point in each]
    if not every:
        return ""
    right = max(step for step, _ in every) or 1
    low, high = min(loss for _, loss in every), max(loss for _, loss in every)
    span = high - low or abs(high) or 1.0

    def place(step: float, loss: float) -> str:
        return f"{70 + 810 * step / right:.1f},{200 - 180 * (loss - low) / span:.1f}"

    body = "".join(
        f'<polyline class="{name}" fill="none" stroke-width="2" points="{" ".join(place(*p) for p in each)}"/>'
        for name, each in points.items()
    )
    legend = "".join(
        f'<path class="{name}" stroke-width="2" d="M{90 + 160 * at} 238h26"/>'
        f'<text x="{122 + 160 * at}" y="242">{name}</text>'
        for at, name in enumerate(points)
    )
    axes = '<path d="M70 12V205H885" fill="none" stroke="currentColor" opacity=".5"/>'
    texts = ((64, 24, f"{high:.5g}"), (64, 204, f"{low:.5g}"), (885, 222, f"step {right:,}"))
    marks = "".join(f'<text x="{x}" y="{y}" text-anchor="end">{text}</text>' for x, y, text in texts)
    return (
        '<figure class="curves"><svg viewBox="0 0 900 250" role="img" aria-label="Loss over the steps of the training"'
        ' font-family="system-ui,sans-serif" font-size="13" fill="currentColor">'
        f"{axes}{body}{legend}{marks}</svg></figure>"
    )


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(line["step"], line[name]) for line in lines if line.get(name) is not None]


def _read(file: Path) -> dict[str, Any]:
    """Return a failure's record or a failed stage's; of a damaged one, what is known of it."""
    at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    try:
        record = json.loads(file.read_bytes())
        return {
            "stage": record["stage"],
            "label": record.get("label") or record.get("contract") or "",
            "error": record.get("error_type") or record["error"],
            "message": record["message"] if "message" in record else record["error"],
            "exit_code": record.get("exit_code", 1),
            "at": at,
        }
    except (ValueError, KeyError, TypeError) as error:
        message = f"Expected the record of a failure at {file}; found something else ({error})."
        return {"stage": file.stem, "label": "", "error": "-", "message": message, "exit_code": 1, "at": at}
