"""``python -m vpoc_ops.demo``: one run of the nightly DAG in this process, its final table and an exit code.

Exit codes: 0 the run succeeded (a rejected promotion is a success), 1 something unexpected, 2 configuration,
3 a gate failed, 4 training unstable, 5 input missing or unreadable. Progress goes to the terminal, Airflow's log lines
to a file.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vpoc_ml import config
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.run_summary import RunSummary, StageFailure
from vpoc_ml.artifacts.training_progress import EpochRecord
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.environment import PROJECT
from vpoc_ml.errors import InvalidValueError, MissingInputError, VpocError
from vpoc_ml.pipeline.events import StageEvent
from vpoc_ml.reports.run_picture import picture
from vpoc_ml.reports.terminal_tables import render
from vpoc_ml.synthetic.planted_rules import Mode
from vpoc_ops import airflow_home, command_line
from vpoc_ops.command_line import HomeOption, OverrideOption


@contextmanager
def captured_output(log_file: Path) -> Iterator[Console]:
    """Send stdout and stderr, those of child processes too, to ``log_file``; yield a console on the real stdout."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log_file.open("a") as log, os.fdopen(os.dup(1), "w") as terminal:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield Console(file=terminal, force_terminal=os.isatty(saved[0]) or None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


class Progress:
    """Prints one line when a task starts and one when it ends, and one per training epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: StageEvent) -> None:
        """Print ``event``."""
        name, training = f"{event.stage} {event.label}".strip(), event.progress
        if event.kind == "started":
            text = f"[dim]  . {name}[/]"
        elif event.kind != "progress":
            colour = {"finished": "green", "skipped": "yellow"}.get(event.kind, "bold red")
            text = f"[{colour}]{event.kind:>9}[/] {name} [dim]{event.seconds:.1f} s[/]"
        elif isinstance(training, EpochRecord):
            losses = f"train {_loss(training.train_loss)} validation {_loss(training.validation_loss)}"
            text = f"[dim]    epoch {training.epoch} {losses}{' best' if training.best else ''}[/]"
        else:
            return
        self.console.print(text, highlight=False)
        self.console.file.flush()


def _loss(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.5f}"


DAG = "vpoc_nightly"
app = command_line.new_app(__doc__)
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of vendor files; default: a synthetic market.")]
ModeOption = Annotated[Mode, typer.Option("--mode", help="What is planted into the synthetic market.")]
VixOption = Annotated[Path | None, typer.Option("--vix", help="VIX file; default: the one in the lake's raw folder.")]


@dataclass(frozen=True)
class DagResult:
    """What is left of a run of the DAG: its folder's name, its state and the tasks that failed."""

    run: str
    state: str
    failed: list[str]


@app.command()
def demo(
    data: DataOption = None,
    vix: VixOption = None,
    mode: ModeOption = "signal",
    preset: Annotated[str, typer.Option("--preset", help="Named preset.")] = "nightly",
    lake: Annotated[Path | None, typer.Option("--lake", help="Lake folder; default: one below data/.")] = None,
    home: HomeOption = airflow_home.DEMO_HOME,
    overrides: OverrideOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Run the nightly DAG in this process."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        settings = dict(config.parse_override(text) for text in overrides)
        settings.setdefault("quality.max_age_sessions", ANY_AGE)  # the synthetic market ends in a past year
        if config.resolve(preset, settings).promotion.require_approval:
            key, expected = "promotion.require_approval", "false here: nobody can approve without `make up`"
            raise InvalidValueError(key, True, expected)
        name = f"demo-{data.absolute().name}" if data else "demo" if mode == "signal" else f"demo-{mode}"
        folder = lake.absolute() if lake else PROJECT / "data" / name
        conf = {"preset": preset, "overrides": settings, **input_conf(data, vix, folder, mode)}
    except VpocError as error:
        console.print(f"[bold red]{type(error).__name__}[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    airflow_home.apply(airflow_home.airflow_env(home.absolute(), folder))
    log_file = folder / "logs" / f"demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    begin = time.monotonic()
    console.print(f"lake {folder}\nlog  {log_file}", highlight=False, soft_wrap=True)
    with captured_output(log_file) as terminal:
        done = _run_dag(conf, Progress(terminal))
    code = _conclude(console, folder, done, log_file)
    seconds = time.monotonic() - begin
    console.print(f"run {done.run}: {done.state} in {seconds:.1f} s, exit code {code}", highlight=False)
    raise typer.Exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return command_line.run(app, arguments)


def input_conf(data: Path | None, vix: Path | None, lake: Path, mode: Mode) -> dict[str, Any]:
    """Return the conf's ``raw`` and ``vix``; without ``data`` write the synthetic market, once per lake.

    Raises:
        MissingInputError: ``data`` or ``vix`` does not exist.
    """
    for path, expected in ((data, "a folder of contract files"), (vix, "a file of VIX closes")):
        if path and not path.exists():
            raise MissingInputError(path, expected, "Check the path.")
    raw = lake / "raw"
    if not data and (not raw.is_dir() or not any(raw.iterdir())):
        from vpoc_ml.synthetic.generate import write_market

        contracts = 5 if mode == "drifting" else 3  # the sign changes after a year
        write_market(raw, contracts=contracts, seed=7, mode=mode)
    return {"raw": data and str(data.absolute()), "vix": vix and str(vix.absolute())}


def _run_dag(conf: dict[str, Any], progress: Progress) -> DagResult:
    """Run the DAG with ``dag.test``."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    from vpoc_ml.pipeline import events

    initdb()
    bag = DagBag()
    if bag.import_errors:
        raise ImportError("\n".join(bag.import_errors.values()))
    events.observers.append(progress)
    try:
        run = bag.dags[DAG].test(run_conf=conf)
    finally:
        events.observers.remove(progress)
    failed = [ti.task_id for ti in run.get_task_instances() if ti.state == "failed"]
    return DagResult(layout.dag_run_name(DAG, run.run_id), str(getattr(run.state, "value", run.state)), failed)


def _conclude(console: Console, lake: Path, done: DagResult, log_file: Path) -> int:
    """Print what the run left behind and return the exit code: that of the first recorded failure."""
    from vpoc_ml import pipeline
    from vpoc_ml.lake.atomic import write_json

    folder = lake / layout.run_folder(done.run)
    if (folder / layout.CONFIG).is_file():
        content: dict[str, Any] = {}
        try:
            summary = pipeline.summarize(str(lake), done.run)
        except VpocError as error:
            console.print(f"no summary: {error}", highlight=False, soft_wrap=True, markup=False)
        else:
            render(console, summary, paths=False)
            _show_picture(console, lake, summary)
            content = summary.to_json()
        write_json(folder / layout.SUMMARY, content | {"run": done.run, "state": done.state})
    files = sorted((folder / layout.FAILURES).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    failures = [StageFailure.model_validate_json(path.read_bytes()) for path in files]
    for failure in failures:
        console.print(f"[bold red]FAILED[/] {failure.stage} {failure.label}", highlight=False)
        console.print(f"{failure.error}: {failure.message}", highlight=False, soft_wrap=True, markup=False)
    if done.state == "success":
        return 0
    if not failures:
        console.print(f"[bold red]FAILED[/] {', '.join(done.failed)}: see the log, {log_file}", soft_wrap=True)
    return failures[0].exit_code if failures else 1


def _show_picture(console: Console, lake: Path, summary: RunSummary) -> None:
    """Print what happened in a few lines, and what to do next."""
    console.print("\n[bold]What happened[/]")
    for line in picture(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    named = shlex.quote(os.path.relpath(lake) if lake.is_relative_to(Path.cwd()) else str(lake))
    console.print("\n[bold]Where to look[/]")
    for title, path in summary.reports.items():
        console.print(f"  {title:<12} {path}", highlight=False, markup=False, soft_wrap=True)
    console.print("\n[bold]What next[/]")
    for command, purpose in (
        (f"make up LAKE={named}", "all reports in the browser, behind a login"),
        (f".venv/bin/vpoc-ml report session --lake {named}", "a session with its volume profile"),
        (f".venv/bin/vpoc-ml models --lake {named}", "the models and the champion"),
        ("make demo DATA=FOLDER VIX=FILE", "your own files; docs/formats.md lists what is read"),
        ("make demo MODE=martingale", "a market without signal: its model is refused"),
    ):
        console.print(f"  {command}\n      {purpose}", highlight=False, markup=False, soft_wrap=True)
    console.print()


if __name__ == "__main__":
    sys.exit(main())
