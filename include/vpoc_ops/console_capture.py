"""Progress on the terminal, Airflow's log lines in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from vpoc_ml.artifacts.training_progress import EpochRecord
from vpoc_ml.pipeline.events import StageEvent


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
