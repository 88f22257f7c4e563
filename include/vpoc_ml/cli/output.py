"""What the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.lineage import ModelRecord
from vpoc_ml.artifacts.model_card import ModelSummary
from vpoc_ml.artifacts.run_summary import RunSummary
from vpoc_ml.artifacts.stage_results import UNCHANGED, DecisionResult, ScoreResult, SeedsResult, StageResult, WorkResult
from vpoc_ml.artifacts.studies import TrialRecord
from vpoc_ml.artifacts.training_progress import ProgressRecord, WindowRecord
from vpoc_ml.artifacts.verification import Verification

if TYPE_CHECKING:
    from vpoc_ml.reports.run_state import FailureRecord
    from vpoc_ml.reports.session_chart import SessionData
    from vpoc_ml.training.hardware.known_issues import Diagnostic

progress = Console(stderr=True)
log = logging.getLogger(__name__)


def emit(result: JsonArtifact, as_json: bool) -> None:
    """Print a result: one JSON line, or one line per field."""
    content = result.to_json()
    if as_json:
        typer.echo(json.dumps(content))
        return
    for name, value in content.items():
        typer.echo(f"{name}: {'; '.join(map(str, value)) if isinstance(value, list) else value}")


def show_record(folder: str, record: ProgressRecord) -> None:
    """Write a progress record of a seed to stderr as one JSON line."""
    sys.stderr.write(json.dumps({**record.to_json(), "folder": folder}) + "\n")


def show_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Print the diagnostics of this machine, one line each, with the remedy below."""
    colours = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}
    out = Console(soft_wrap=True)
    for diagnostic in diagnostics:
        sign = f"[{colours[diagnostic.level]}]{diagnostic.level:<8}[/]"
        out.print(f"{sign} {diagnostic.subject:<26} ", end="")
        out.print(diagnostic.found, markup=False, highlight=False)
        if diagnostic.remedy:
            out.print(f"{'':<36}{diagnostic.remedy}", markup=False, highlight=False)


def show_verification(found: Verification, as_json: bool) -> None:
    """Print what was checked in a lake, and one line per problem with what to do."""
    if as_json:
        typer.echo(json.dumps(found.to_json()))
        return
    for problem in found.problems:
        typer.echo(problem.to_line())
    names = ("entries", "versions", "artifacts", "folds", "champions")
    counts = ", ".join(f"{getattr(found, name):,} {name}" for name in names)
    typer.echo(f"{len(found.problems)} problem(s). Checked: {counts}.")


def log_to_stderr() -> None:
    """Send the package's log records to stderr, with their time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    package = logging.getLogger("vpoc_ml")
    package.addHandler(handler)
    package.setLevel(logging.INFO)


def show_summary(summary: RunSummary, as_json: bool) -> None:
    """Print the summary of a run."""
    if as_json:
        typer.echo(json.dumps(summary.to_json()))
        return
    from vpoc_ml.reports.terminal_tables import render

    render(Console(), summary)


def show_session(session: SessionData, as_json: bool) -> None:
    """Print a session: levels, nodes, naked VPOCs."""
    if as_json:
        tables = {"nodes": session.nodes.to_dicts(), "naked": session.naked.to_dicts()}
        content = {"contract": session.contract, "session": session.session, "levels": session.levels} | tables
        typer.echo(json.dumps(content, default=str))
        return
    from vpoc_ml.reports.terminal_tables import render_session

    render_session(Console(), session)


def show_failures(failed: list[FailureRecord]) -> None:
    """Print the failures of a run with what to do."""
    from vpoc_ml.reports.terminal_tables import render_failures

    render_failures(Console(), failed)


def write(path: Path, text: str, what: str) -> None:
    """Write ``text``, which is ``what``, to a file and say so."""
    from vpoc_ml.lake.atomic import write_text

    write_text(path, text)
    progress.print(f"{what} in {path}", highlight=False, markup=False, soft_wrap=True)


def show_models(models: list[ModelSummary]) -> None:
    """Print the registered models."""
    if not models:
        typer.echo("no model is registered")
        return
    from vpoc_ml.reports.terminal_tables import render_models

    render_models(Console(), models)


def show_model(record: ModelRecord, as_json: bool) -> None:
    """Print the record of a registered version."""
    if as_json:
        typer.echo(json.dumps(record.to_json()))
        return
    from vpoc_ml.reports.terminal_tables import render_model

    render_model(Console(), record)


def show_scores(result: ScoreResult, as_json: bool) -> None:
    """Print the result of scoring: one JSON line, or one sentence."""
    from vpoc_ml.reports.sentences import scores_sentence

    typer.echo(json.dumps(result.to_json()) if as_json else scores_sentence(result))


def show_decision(decision: DecisionResult, as_json: bool) -> None:
    """Print a decision about a candidate."""
    if as_json:
        typer.echo(json.dumps(decision.to_json()))
        return
    from vpoc_ml.reports.terminal_tables import render_decision

    render_decision(Console(), decision)


def show_seeds(result: SeedsResult, as_json: bool) -> None:
    """Print the results of a seed study."""
    if as_json:
        typer.echo(json.dumps(result.to_json()))
        return
    from vpoc_ml.reports.terminal_tables import render_seeds

    render_seeds(Console(), result)


def show_notes(notes: Iterable[str]) -> None:
    """Print remarks on the run, one line each."""
    for note in notes:
        progress.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)


def show_stage(result: StageResult) -> None:
    """Print a finished stage: rows, seconds, and why anything was computed."""
    show_progress.stop()
    name = f"{result.stage} {result.contract or ''}".strip()
    rows, state = "", f"{result.seconds or 0:.1f} s"
    if isinstance(result, WorkResult):
        rows = f"{result.rows_in:,} -> {result.rows_out:,} rows"
        state = UNCHANGED if result.skipped else f"{state}  {result.reason or ''}".rstrip()
    progress.print(f"  {name:<28} {rows:<28} {state}", highlight=False)


class TrainingProgress:
    """Prints each epoch. Windows of steps move a bar if the console is a terminal, and are logged with --verbose."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None

    def __call__(self, record: ProgressRecord) -> None:
        """Show a line of ``progress.jsonl``."""
        if isinstance(record, WindowRecord):
            log.info("step %s: loss %s, learning rate %.3g", record.step, record.loss, record.lr or 0.0)
            self._move(record)
        else:
            self.console.print(f"    {record.to_sentence()}", highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the bar after the training has ended or failed."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _move(self, record: WindowRecord) -> None:
        if not self.console.is_terminal:
            return
        if self.bar is None:
            parts = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*parts, console=self.console, transient=True)
            self.bar.add_task("training")
            self.bar.start()
        loss = "-" if record.loss is None else f"{record.loss:.5f}"
        counts = {"skipped": record.skipped, "rollbacks": record.rollbacks}
        events = "".join(f", {count} {name}" for name, count in counts.items() if count)
        self.bar.update(
            self.bar.task_ids[0],
            description=f"epoch {record.epoch}, loss {loss}{events}",
            completed=record.step,
            total=record.steps_total,
        )


show_progress = TrainingProgress(progress)


def show_trial(record: TrialRecord) -> None:
    """Print a trial of a search: its value on validation rows, and its settings."""
    value = record.status if record.value is None else f"{record.value:+.5f}"
    own = "  (the run's own)" if record.own else ""
    progress.print(f"  trial {record.number:<4} {value:>9}  {' '.join(record.overrides)}{own}", highlight=False)
